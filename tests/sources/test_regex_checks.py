"""A pattern of a check comes from data: it may not stop an evaluation."""

import json
import time

import pytest

from lmadapt.core.errors import UserError
from lmadapt.sources import patterns
from lmadapt.sources.answer_checks import check_problem, score_answer


def check(pattern: str) -> str:
    return json.dumps({"kind": "regex", "pattern": pattern})


@pytest.mark.parametrize(
    ("pattern", "answer", "score"),
    [
        (r"^CWE-\d+", "CWE-79", 1.0),
        ("(?i)yes", "Oh YES", 1.0),
        (r"(?<!no )hope", "no hope", 0.0),
        (r"\bé\w+\b", "un été", 1.0),
    ],
)
def test_a_pattern_is_searched_in_the_answer(pattern: str, answer: str, score: float) -> None:
    assert score_answer(answer, check(pattern)) == score


@pytest.mark.parametrize("pattern", ["^(a|a)*$", "^(a|aa)+$", "(.*?,){20}P"])
def test_a_pattern_that_backtracks_for_ever_is_refused_when_items_are_read(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    patterns.slow_text.cache_clear()
    began = time.process_time()
    assert "write it without a repetition inside a repetition" in check_problem(check(pattern))
    assert time.process_time() - began < 5


def test_a_search_that_does_not_end_scores_nothing_and_warns(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    monkeypatch.setattr(patterns, "slow_text", lambda pattern: "")
    assert score_answer("q" * 60 + "!", check("^(q|q)*$")) == 0
    assert "took over 0.1 s on a text of 61 characters" in caplog.text


@pytest.mark.parametrize("pattern", ["(", "a{99999999999999}", "*a", "(?P<a>x)(?P<a>y)"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UserError, match="pattern"):
        score_answer("x", check(pattern))
