import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lmadapt.verdict.decision import Comparison, Scored, compare, judge
from tests.verdict.exam import BASE, BETTER, changed

MARGINS: dict[str, Any] = {"margin": 0.02, "category_margin": 0.05, "significance": 0.05}
NOISE = 0.05


def graded(model: Scored, seed: int, *, temperature: float = 0.3) -> Scored:
    """Right answers have a probability of about 0.85, wrong ones of about 0.15."""
    draw = np.random.default_rng(seed)
    middle = np.where(model.scores == 1, 0.85, 0.15)
    noisy = np.clip(middle + draw.normal(0, NOISE, len(middle)), 0, 1)
    chances = np.full(len(middle), 0.25)
    return replace(model, graded=noisy, temperature=temperature, chances=chances)


def compared(before: Scored, after: Scored, **settings: Any) -> Comparison:
    return compare(before, after, **MARGINS, **settings)


REFERENCE, ADAPTED = graded(BASE, 1), graded(BETTER, 2)


def test_the_margin_is_translated_by_what_the_reference_knows() -> None:
    test = compared(REFERENCE, ADAPTED).general
    assert test.graded is not None
    inside = BASE.groups == "general"
    accuracy, score = (values[inside].mean() for values in (BASE.scores, REFERENCE.graded))
    assert test.graded.margin == pytest.approx(0.02 * (score - 0.25) / (accuracy - 0.25))
    assert test.graded.margin < test.margin == 0.02


def test_graded_scores_decide_what_right_and_wrong_answers_leave_open() -> None:
    """As many answers changed by chance each way; what the model knows about them did not."""
    draw = np.random.default_rng(3)
    flipped = (draw.random(len(BASE.ids)) < 0.12) & (BASE.groups == "general")
    scores = np.where(flipped, draw.random(len(BASE.ids)) < 0.7, ADAPTED.scores).astype(float)
    after = replace(ADAPTED, scores=scores)
    found = judge(compared(REFERENCE, after), [], significance=0.05)
    assert found.outcome == "SHIP"
    by_accuracy = compared(REFERENCE, after, score="accuracy")
    assert judge(by_accuracy, [], significance=0.05).outcome == "INCONCLUSIVE"
    assert by_accuracy.general.graded is None


def test_accuracy_is_a_second_test_for_harm() -> None:
    """A loss of right answers that leaves their probability as it was is still held."""
    after = replace(ADAPTED, scores=changed(ADAPTED, BASE.categories == "g2", 0.3, to=0.0).scores)
    comparison = compared(REFERENCE, after)
    assert comparison.categories["g2"].within_margin(0.05)
    found = judge(comparison, [], significance=0.05)
    assert found.outcome == "HOLD"
    assert "g2 became worse by" in found.reason


def test_a_loss_of_probability_alone_is_held() -> None:
    lower = np.where(BASE.categories == "g2", ADAPTED.graded - 0.15, ADAPTED.graded)
    after = replace(ADAPTED, graded=np.clip(lower, 0, 1))
    found = judge(compared(REFERENCE, after), [], significance=0.05)
    assert found.outcome == "HOLD"
    assert re.search(r"g2 became worse by 1\d\.\d points of graded score", found.reason)


def test_both_scores_share_the_level_of_a_question() -> None:
    after = changed(BETTER, BASE.categories == "g2", 0.05, to=0.0)
    alone = compare(BASE, after, **MARGINS).categories["g2"]
    both = compared(REFERENCE, replace(ADAPTED, scores=after.scores)).categories["g2"]
    assert both.worse_p_adjusted == pytest.approx(2 * alone.worse_p_adjusted)


@pytest.mark.parametrize("other", [{"temperature": 0.4}, {"graded": None, "temperature": None}])
def test_scores_at_two_temperatures_are_not_compared(other: dict[str, Any]) -> None:
    assert compared(REFERENCE, replace(ADAPTED, **other)).general.graded is None


def test_a_smallest_gain_is_translated_too() -> None:
    comparison = compared(REFERENCE, ADAPTED, min_domain_gain=0.05)
    assert comparison.domain_graded is not None
    assert 0.02 < (comparison.domain_graded.margin or 0) < 0.05
    low = comparison.domain_graded.change.interval[0]
    assert (comparison.domain_gain_p <= 0.05) is (low > (comparison.domain_graded.margin or 0))


def test_the_evidence_shows_both_scores() -> None:
    lines = judge(compared(REFERENCE, ADAPTED), [], significance=0.05).evidence
    assert all("; graded score " in line for line in lines)
