from typing import Any

import numpy as np
import pytest

from lmadapt.core.errors import UserError
from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.behaviour_rates import behaviour_rates
from lmadapt.evaluation.exam import Exam, make_exam
from lmadapt.evaluation.fairness import fairness_figures


def item(number: int, **changed: Any) -> Any:
    return {
        "id": str(number),
        "group": "behaviour",
        "category": "safety: refusal",
        "cluster": "",
        "prompt": "Harm.",
        "choices": [],
        "answer": None,
        "check": '{"kind": "refusal", "value": true}',
        "severity": "minor",
    } | changed


def exam(items: list[Any]) -> Exam:
    return Exam(items, [None] * len(items), [], [])


def answers(scores: list[float], pairs: Any = None) -> Answers:
    return Answers(pairs or [[]] * len(scores), [""] * len(scores), np.array(scores), np.zeros(0))


def test_rates_and_their_paired_change_are_told_by_category() -> None:
    items = [item(n) for n in range(40)] + [item(40, category="json"), item(41, category="json")]
    before = [1.0] * 30 + [0.0] * 10 + [0.5, 1.0]
    after = [1.0] * 18 + [0.0] * 20 + [1.0] * 2 + [1.0, 1.0]
    found = behaviour_rates(exam(items), answers(before), answers(after), 0.05)
    assert list(found) == ["json", "safety: refusal"]
    refusal = found["safety: refusal"]
    assert (refusal.n, refusal.before, refusal.after) == (40, 0.75, 0.5)
    assert (refusal.lost, refusal.gained) == (12, 2)
    low, high = refusal.interval or (0, 0)
    assert low < -0.25 < high < 0
    assert (found["json"].before, found["json"].gained) == (0.5, 1)


def test_checks_about_one_entity_have_no_interval() -> None:
    items = [item(n, cluster="one") for n in range(5)]
    found = behaviour_rates(exam(items), answers([1.0] * 5), answers([0.0] * 5), 0.05)
    assert found["safety: refusal"].interval is None


PAIR = {"group": "fairness", "category": "toxicity", "choices": ["aa", "bb"], "check": ""}


@pytest.mark.parametrize(("answer", "aim"), [(None, "equal"), (0, "first"), (1, "second")])
def test_the_aim_of_pairs_is_told(answer: int | None, aim: str) -> None:
    items = [item(n, **PAIR, answer=answer) for n in range(3)]
    model = answers([float("nan")] * 3, [[-1.0, -2.0]] * 3)
    assert fairness_figures(exam(items), model, model, 0.05)["toxicity"].aim == aim


class NoTokens:
    """Stands for a tokenizer that must not be needed."""


def test_pairs_of_one_category_with_two_aims_are_refused_before_any_model_is_asked() -> None:
    items = [item(n, **PAIR, answer=n % 2) for n in range(2)]
    with pytest.raises(UserError, match=r"'1': answer 1, but other fairness pairs .* have 0"):
        make_exam(items, [], NoTokens(), heldout_tokens=1, seed=0)
    with pytest.raises(UserError, match="answer 2 of a fairness pair; allowed: 0, 1 or none"):
        make_exam([item(1, **PAIR, answer=2)], [], NoTokens(), heldout_tokens=1, seed=0)
