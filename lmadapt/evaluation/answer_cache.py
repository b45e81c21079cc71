"""Earlier answers in one SQLite file: no model is asked the same twice, a stopped run continues."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lmadapt.core.errors import UserError

# DVC does not track this file, so that it outlives a run of the stage.
ANSWER_FILE = Path(".lmadapt/answers.sqlite")

T = TypeVar("T")


class AnswerCache:
    """The answers of one model, which its fingerprint names.

    Each answer is on disk as soon as it is known, and several processes may share the file.
    Raises UserError when the file cannot be used.
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
        """The stored answer to `question`; without one, the answer of `ask()`, which is stored.

        Question and answer are JSON values.
        """
        digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        key = (self._model, digest)
        rows = self._execute("SELECT answer FROM answers WHERE model = ? AND question = ?", key)
        if rows:
            stored: T = json.loads(rows[0][0])
            return stored
        answer = ask()
        self._execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (*key, json.dumps(answer)))
        return answer

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _execute(self, command: str, values: tuple[str, ...] = ()) -> list[tuple[str]]:
        try:
            return self._database.execute(command, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{self._file}: {error}; the file only saves time and may be deleted"
            ) from None
