"""How many items show a change, and what change some items show."""

import numpy as np
import pytest
from scipy import stats

from lmadapt.verdict.statistics import (
    items_needed,
    minimum_detectable_effect,
    noninferiority_p,
    paired_change,
)


def test_effect_and_items_needed_agree() -> None:
    before, after = (np.random.default_rng(3).random((2, 4000)) < 0.6).astype(float)
    change = paired_change(before, after, np.arange(4000), 0.05)
    effect = minimum_detectable_effect(change, 0.05)
    assert effect == pytest.approx(change.standard_error * (1.645 + 0.842) + 1 / 4000, rel=1e-2)
    uncertainty = 3999 / stats.chi2.isf(0.8, 3999)
    assert items_needed(change, effect - 1 / 4000, 0.05) == pytest.approx(
        4000 * uncertainty + 2 / effect, rel=2e-3
    )


def lossy_pair(
    draw: np.random.Generator, n: int, lost: float, gained: float
) -> tuple[np.ndarray, np.ndarray]:
    fate = draw.random(n)
    return (fate < lost).astype(float), ((fate >= lost) & (fate < lost + gained)).astype(float)


@pytest.mark.parametrize("churn", [0.05, 0.3])
def test_the_items_needed_give_the_power_they_promise(churn: float) -> None:
    draw = np.random.default_rng(0)
    n = items_needed(
        paired_change(*lossy_pair(draw, 2000, churn / 2, churn / 2), np.arange(2000), 0.05),
        0.03,
        0.05,
    )
    within = worse = 0
    for _ in range(400):
        same = paired_change(*lossy_pair(draw, n, churn / 2, churn / 2), np.arange(n), 0.05)
        lossy = paired_change(
            *lossy_pair(draw, n, churn / 2 + 0.015, churn / 2 - 0.015), np.arange(n), 0.05
        )
        within += noninferiority_p(same, 0.03) <= 0.05
        worse += lossy.worse_p <= 0.05
    assert within / 400 > 0.75
    assert 0.75 < worse / 400 < 0.9


@pytest.mark.parametrize("n", [300, 2000])
def test_a_loss_of_the_minimum_detectable_effect_is_detected(n: int) -> None:
    draw, worse = np.random.default_rng(0), 0
    for _ in range(400):
        same = paired_change(*lossy_pair(draw, n, 0.05, 0.05), np.arange(n), 0.05)
        half = minimum_detectable_effect(same, 0.05) / 2
        worse += (
            paired_change(
                *lossy_pair(draw, n, 0.05 + half, 0.05 - half), np.arange(n), 0.05
            ).worse_p
            <= 0.05
        )
    assert 0.75 < worse / 400 < 0.9
