"""What models answered before, in one SQLite file: no model is asked the same twice, and a killed run goes on."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lmadapt.core.errors import UserError

T = TypeVar("T")


class AnswerCache:
    """The answers of one model, named by its fingerprint.

    Each is on disk as soon as it is there; processes may share the file. Raises UserError when it cannot be used.
    """

    def __init__(self, file: Path, model: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._model = file, model
        self._database = sqlite3.connect(file, timeout=60, isolation_level=None)
        self._execute("PRAGMA journal_mode=WAL")
        self._execute(
            "CREATE TABLE IF NOT EXISTS answers "
            "(model TEXT, question TEXT, answer TEXT, PRIMARY KEY (model, question)) WITHOUT ROWID"
        )

    def recall(self, question: Any, ask: Callable[[], T]) -> T:
        """The answer kept for `question` (any JSON value), else `ask()`, whose answer (JSON as well) is kept."""
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        place = (self._model, key)
        rows = self._execute("SELECT answer FROM answers WHERE model = ? AND question = ?", place)
        if rows:
            kept: T = json.loads(rows[0][0])
            return kept
        answer = ask()
        self._execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (*place, json.dumps(answer))
        )
        return answer

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _execute(self, command: str, values: tuple[str, ...] = ()) -> list[tuple[str]]:
        try:
            return self._database.execute(command, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{self._file}: {error}; it only saves time and may be deleted"
            ) from None
