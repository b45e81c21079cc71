import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lmadapt.evaluation.answer_cache import AnswerCache

ASKER = """
import sys, time
from pathlib import Path
from lmadapt.evaluation.answer_cache import AnswerCache
cache = AnswerCache(Path(sys.argv[1]), "model")
for number in range(200):
    cache.recall(number, lambda: [number / 3])
"""


def never() -> list[float]:
    raise AssertionError("asked again")


def test_an_answer_is_asked_for_once_and_recalled_to_the_last_bit(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "answers.sqlite"
    first = AnswerCache(file, "model").recall([[1, 2], "q"], lambda: [0.1 + 0.2, -1 / 3])
    assert AnswerCache(file, "model").recall([[1, 2], "q"], never) == first == [0.1 + 0.2, -1 / 3]


def test_another_model_or_question_is_asked_again(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    AnswerCache(file, "model").recall([1], lambda: "one")
    assert AnswerCache(file, "other").recall([1], lambda: "two") == "two"
    assert AnswerCache(file, "model").recall([2], lambda: "three") == "three"


def test_a_failure_stores_nothing(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite", "model")
    with pytest.raises(AssertionError):
        cache.recall([1], never)
    assert cache.recall([1], lambda: "now") == "now"


def test_processes_share_the_file(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    askers = [subprocess.Popen([sys.executable, "-c", ASKER, str(file)]) for _ in range(3)]
    assert [asker.wait() for asker in askers] == [0, 0, 0]
    cache = AnswerCache(file, "model")
    assert [cache.recall(number, never) for number in range(200)] == [
        [number / 3] for number in range(200)
    ]


def test_a_broken_file_is_set_aside_and_a_new_one_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_bytes(b"x" * 5000)
    assert AnswerCache(file, "model").recall([1], lambda: "one") == "one"
    assert AnswerCache(file, "model").recall([1], lambda: "two") == "one"
    (aside,) = tmp_path.glob("answers.sqlite.broken-*")
    assert aside.read_bytes() == b"x" * 5000
    assert f"it is now {aside.name}, and a new file is made" in caplog.text


def test_a_file_broken_while_it_is_open_is_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    cache = AnswerCache(file, "model")
    cache.recall([1], lambda: "one")
    cache._execute("PRAGMA wal_checkpoint(TRUNCATE)", ())
    file.write_bytes(b"x" * 50000)
    assert cache.recall([2], lambda: "two") == "two"
    assert AnswerCache(file, "model").recall([3], lambda: "three") == "three"


def test_an_answer_changed_in_the_file_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "answers.sqlite"
    AnswerCache(file, "model").recall([1], lambda: [0.5])
    with sqlite3.connect(file) as database:
        database.execute("UPDATE hashed_answers SET answer = '[0.9]'")
    database.close()
    assert AnswerCache(file, "model").recall([1], lambda: [0.25]) == [0.25]
    assert AnswerCache(file, "model").recall([1], never) == [0.25]
    assert "a stored answer has changed" in caplog.text


def test_an_answer_moved_to_another_model_is_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    AnswerCache(file, "base").recall([1], lambda: "right")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE hashed_answers SET model = 'adapted'")
    database.close()
    assert AnswerCache(file, "adapted").recall([1], lambda: "wrong") == "wrong"


def test_a_file_that_takes_no_answer_stops_no_evaluation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite", "model")
    cache._database.execute("PRAGMA max_page_count = 5")  # type: ignore[union-attr]
    answers = [cache.recall([number], lambda: ["x" * 5000]) for number in range(9)]
    assert answers == [["x" * 5000]] * 9
    assert caplog.text.count("answers are not stored, and a stopped run asks again") == 1
    assert "full" in caplog.text


def test_a_folder_that_cannot_be_made_stops_no_evaluation(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert AnswerCache(tmp_path / "file/answers.sqlite", "model").recall([1], lambda: 1) == 1
