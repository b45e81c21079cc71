"""Accuracies, their intervals, and what guessing adds to them."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint

from lmadapt.core.errors import UserError
from lmadapt.verdict.statistics import accuracy_interval, chance_adjusted, wilson_interval

CASES = range(20)


@pytest.mark.parametrize("seed", CASES)
def test_wilson_agrees_with_statsmodels(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n = int(draw.integers(1, 500))
    successes = int(draw.integers(0, n + 1))
    expected = proportion_confint(successes, n, alpha=0.1, method="wilson")
    assert wilson_interval(successes, n, stats.norm.ppf(0.95)) == pytest.approx(expected)


def test_the_interval_of_an_accuracy_widens_with_its_clusters() -> None:
    correct = np.repeat([1.0, 0.0, 1.0, 1.0], 25)
    alone, together = (
        accuracy_interval(correct, clusters, 0.05)
        for clusters in (np.arange(100), np.repeat(np.arange(20), 5))
    )
    assert alone == pytest.approx(proportion_confint(75, 100, alpha=0.1, method="wilson"), abs=3e-3)
    assert together[0] < alone[0] < alone[1] < together[1]
    assert accuracy_interval(np.ones(100), np.arange(100), 0.05)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("accuracy", "chance", "adjusted"),
    [(0.25, 0.25, 0.0), (1.0, 0.25, 1.0), (0.7, 0.5, 0.4), (0.3, 0.0, 0.3)],
)
def test_chance_is_subtracted(accuracy: float, chance: float, adjusted: float) -> None:
    assert chance_adjusted(accuracy, chance) == pytest.approx(adjusted)


def test_chance_adjusted_is_cohens_kappa_of_balanced_guessing() -> None:
    truth = np.arange(400) % 4
    answers = np.where(np.arange(400) % 100 < 60, truth, (truth + 1) % 4)
    table = np.histogram2d(truth, answers, bins=4)[0]
    assert chance_adjusted(float(np.mean(truth == answers)), 0.25) == pytest.approx(
        cohens_kappa(table).kappa
    )


def test_chance_of_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"chance of guessing right is 1\.0"):
        chance_adjusted(1.0, 1.0)


def test_the_interval_of_graded_scores_is_about_students() -> None:
    scores = np.random.default_rng(0).beta(6, 4, 400)
    low, high = accuracy_interval(scores, np.arange(400), 0.05)
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.9)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert accuracy_interval(np.full(50, 0.4), np.arange(50), 0.05) == pytest.approx(
        proportion_confint(20, 50, alpha=0.1, method="wilson"), abs=3e-3
    )


def test_clusters_with_equal_means_have_an_interval() -> None:
    low, high = accuracy_interval(np.tile([1.0, 0.0], 50), np.arange(100) // 2, 0.05)
    assert (low, high) == pytest.approx(
        proportion_confint(50, 100, alpha=0.1, method="wilson"), abs=3e-3
    )
