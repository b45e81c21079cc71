import subprocess
import sys
from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
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


def test_a_file_that_is_not_a_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match=r"answers.sqlite: .*may be deleted"):
        AnswerCache(tmp_path / "answers.sqlite", "model")
