from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.spurious_forgetting import LostItems, compare_forms, lost_items
from lmadapt.models.questions import Question
from lmadapt.verdict.figures import SpuriousForgetting

ITEMS = 400
SETTINGS = EvaluationSettings(
    seed=0,
    margin=0.02,
    category_margin=0.05,
    score="accuracy",
    margin_scale="accuracy",
    min_domain_gain=0.0,
    not_measured=(),
    bits_per_byte_margin=0.05,
    kl_margin=1.0,
    significance=0.05,
    batch_tokens=1,
    max_new_tokens=1,
    answer_file=Path("none"),
)


def exam(cluster: str = "") -> Exam:
    items: list[Any] = [
        {
            "id": str(number),
            "group": "general",
            "category": "facts",
            "cluster": cluster,
            "prompt": "Which?",
            "choices": list("abcd"),
            "answer": 0,
            "check": "",
            "severity": "",
        }
        for number in range(ITEMS)
    ]
    return Exam(items, [Question([1], [[2]] * 4)] * ITEMS, [], [])


def right(share: float) -> np.ndarray:
    return np.arange(ITEMS) < share * ITEMS


def compare(kept: dict[str, float], regained: dict[str, float]) -> SpuriousForgetting:
    reference = {form: right(share) for form, share in kept.items()}
    adapted = {form: right(share) for form, share in regained.items()}
    lost = LostItems(ITEMS, list(range(ITEMS)))
    found = compare_forms(exam(), lost, reference, adapted, SETTINGS).figures
    assert found is not None
    return found


def test_what_comes_back_is_judged_against_what_the_reference_keeps() -> None:
    found = compare({"few_shot": 0.75, "bare": 0.95}, {"few_shot": 0.5, "bare": 0.5})
    assert found.spurious == pytest.approx((0.5 - 0.25) / (0.75 - 0.25))
    assert found.spurious_interval is not None
    assert found.spurious_interval[0] < 0.5 < found.spurious_interval[1]
    assert (found.few_shot.kept, found.few_shot.regained) == (300, 200)
    assert found.few_shot.difference == pytest.approx(-0.25)
    low, high = found.few_shot.difference_interval or (0, 0)
    assert low < -0.25 < high < 0


def test_a_form_in_which_the_reference_only_guesses_says_nothing() -> None:
    found = compare({"few_shot": 0.25, "bare": 0.95}, {"few_shot": 0.6, "bare": 0.25})
    assert found.spurious == 0
    nothing = compare({"few_shot": 0.25, "bare": 0.2}, {"few_shot": 0.6, "bare": 0.6})
    assert (nothing.spurious, nothing.spurious_interval) == (None, None)


def test_more_than_the_reference_keeps_counts_as_all_of_it() -> None:
    found = compare({"few_shot": 0.6, "bare": 0.6}, {"few_shot": 0.9, "bare": 0.3})
    assert found.spurious == 1
    assert found.spurious_interval is not None
    assert found.spurious_interval[0] > 1


def test_lost_items_about_one_entity_have_no_interval() -> None:
    lost = LostItems(ITEMS, list(range(ITEMS)))
    forms = {"few_shot": right(0.9), "bare": right(0.9)}
    found = compare_forms(exam("one"), lost, forms, forms, SETTINGS).figures
    assert found is not None
    assert (found.spurious, found.few_shot.difference_interval) == (None, None)


def test_at_most_400_lost_items_are_drawn_and_the_seed_decides_which() -> None:
    long = exam()
    longer = Exam(long.items * 2, long.questions * 2, [], [])
    before, after = (
        Answers([[]] * 2 * ITEMS, [""] * 2 * ITEMS, np.full(2 * ITEMS, score), np.zeros(0))
        for score in (1.0, 0.0)
    )
    found = lost_items(longer, before, after, seed=0)
    assert (found.count, len(set(found.asked))) == (800, 400)
    assert found == lost_items(longer, before, after, seed=0)
    assert found != lost_items(longer, before, after, seed=1)


def test_nothing_lost_gives_no_figures() -> None:
    assert compare_forms(exam(), LostItems(0, []), {}, {}, SETTINGS).figures is None
