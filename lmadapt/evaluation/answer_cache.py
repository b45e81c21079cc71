"""Earlier answers in one SQLite file: no model is asked the same twice, a stopped run continues.

The file only saves time. It is never believed against its own hashes, and no fault of it stops an
evaluation: a broken file is set aside, and an answer that cannot be stored is not stored.
"""

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

log = logging.getLogger(__name__)

# DVC does not track this file, so that it outlives a run of the stage.
ANSWER_FILE = Path(".lmadapt/answers.sqlite")
TABLE = (
    "CREATE TABLE IF NOT EXISTS hashed_answers (model TEXT, question TEXT, answer TEXT, "
    "sha256 TEXT, PRIMARY KEY (model, question)) WITHOUT ROWID"
)
FIND = "SELECT answer, sha256 FROM hashed_answers WHERE model = ? AND question = ?"
STORE = "INSERT OR REPLACE INTO hashed_answers VALUES (?, ?, ?, ?)"

T = TypeVar("T")


class AnswerCache:
    """The answers of one model, which its fingerprint names.

    Each answer is on disk as soon as it is known, and several processes may share the file.
    """

    def __init__(self, file: Path, model: str) -> None:
        self._file, self._model = file, model
        self._failed = False  # whether the log already says that nothing is stored
        self._database: sqlite3.Connection | None = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(file)
        except (sqlite3.OperationalError, OSError) as error:
            self._store_no_more(error)
        except sqlite3.DatabaseError as error:
            self._database = self._open_anew(error)

    def recall(self, question: Any, ask: Callable[[], T]) -> T:
        """The stored answer to `question`; without one, the answer of `ask()`, which is stored.

        Question and answer are JSON values. A stored answer that has another hash than when it was
        stored is asked for again.
        """
        key = (self._model, _sha256(json.dumps(question, sort_keys=True)))
        stored = self._find(key)
        if stored is not None:
            found: T = json.loads(stored)
            return found
        answer = ask()
        text = json.dumps(answer)
        self._execute(STORE, (*key, text, _sha256(*key, text)))
        return answer

    def close(self) -> None:
        """Close the file."""
        if self._database:
            self._database.close()

    def _find(self, key: tuple[str, str]) -> str | None:
        for answer, sha256 in self._execute(FIND, key):
            if sha256 == _sha256(*key, answer):
                return str(answer)
            log.warning("%s: a stored answer has changed; it is asked for again", self._file)
        return None

    def _execute(self, command: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """The rows found; none where the file fails."""
        if self._database is None:
            return []
        try:
            return self._database.execute(command, values).fetchall()
        except sqlite3.OperationalError as error:  # no space, or no right to write
            self._store_no_more(error)
        except sqlite3.DatabaseError as error:
            self._database.close()
            self._database = self._open_anew(error)
        return []

    def _open_anew(self, error: Exception) -> sqlite3.Connection | None:
        """Move the broken file away and start an empty one."""
        aside = self._file.with_name(f"{self._file.name}.broken-{int(time.time())}")
        log.warning("%s: %s; it is now %s, and a new file is made", self._file, error, aside.name)
        try:
            self._file.replace(aside)
            for part in ("-wal", "-shm"):
                self._file.with_name(self._file.name + part).unlink(missing_ok=True)
            return _open(self._file)
        except (sqlite3.Error, OSError) as again:
            self._store_no_more(again)
            return None

    def _store_no_more(self, error: Exception) -> None:
        if not self._failed:
            log.warning(
                "%s: %s; answers are not stored, and a stopped run asks again", self._file, error
            )
        self._failed = True


def _open(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=60, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(TABLE)
    except sqlite3.Error:
        with suppress(sqlite3.Error):
            database.close()
        raise
    return database


def _sha256(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
