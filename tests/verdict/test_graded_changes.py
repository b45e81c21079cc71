"""Paired changes of graded scores, which may change a little on every item."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from lmadapt.verdict.statistics import (
    Array,
    PairedChange,
    items_needed,
    minimum_detectable_effect,
    noninferiority_p,
    paired_change,
)

CASES = range(5)
LEVEL = 0.05


def graded_change(before: Array, after: Array, clusters: Array | None = None) -> PairedChange:
    own = np.arange(len(before)) if clusters is None else clusters
    return paired_change(before, after, own, LEVEL, graded=True)


def shaken(draw: np.random.Generator, before: Array, noise: float, loss: float = 0.0) -> Array:
    return np.clip(before + draw.normal(-loss, noise, len(before)), 0, 1)


def whole_items_lost(draw: np.random.Generator, n: int, loss: float) -> tuple[Array, Array]:
    """Scores of which a few fall to zero, so that `loss` is lost on average, and no other moves."""
    before = draw.beta(6, 3, n)
    return before, np.where(draw.random(n) < loss * 9 / 6, 0.0, before)


def test_without_a_change_right_and_wrong_answers_have_the_same_interval() -> None:
    scores = np.repeat([1.0, 0.0], 50)
    plain = paired_change(scores, scores, np.arange(100), LEVEL)
    assert graded_change(scores, scores).interval == pytest.approx(plain.interval)


def test_graded_scores_that_hardly_vary_prove_what_right_and_wrong_answers_cannot() -> None:
    draw = np.random.default_rng(0)
    before = draw.beta(6, 4, 60)
    pair = (before, shaken(draw, before, 0.02))
    plain = paired_change(*pair, np.arange(60), LEVEL)
    assert noninferiority_p(plain, 0.04) > LEVEL > noninferiority_p(graded_change(*pair), 0.04)


@pytest.mark.parametrize("n", [60, 275])
def test_a_loss_of_whole_items_at_the_margin_passes_as_rarely_as_promised(n: int) -> None:
    draw, loss, runs = np.random.default_rng(0), 0.03, 100
    passed = 0
    for _ in range(runs):
        before, after = whole_items_lost(draw, n, loss)
        passed += noninferiority_p(graded_change(before, after), loss) <= LEVEL
    assert passed / runs <= LEVEL + 0.02


def test_a_plain_t_test_accepts_a_loss_of_whole_items_too_often() -> None:
    draw, loss, runs = np.random.default_rng(0), 0.03, 400
    pairs = [whole_items_lost(draw, 60, loss) for _ in range(runs)]
    changes = np.array([after - before for before, after in pairs])
    p = stats.ttest_1samp(changes, -loss, axis=1, alternative="greater").pvalue
    assert np.mean(p <= LEVEL) > 2 * LEVEL


@pytest.mark.parametrize("n", [60, 275])
def test_rare_gains_that_balance_small_losses_are_not_called_a_loss(n: int) -> None:
    draw, runs, worse = np.random.default_rng(0), 100, 0
    for _ in range(runs):
        before, gained = draw.beta(4, 6, n), draw.random(n) < 0.03
        after = np.where(gained, 1.0, before - 0.6 * 0.03 / 0.97)
        worse += graded_change(before, after).worse_p <= LEVEL
    assert worse / runs <= LEVEL + 0.03


@pytest.mark.parametrize("seed", CASES)
def test_interval_and_p_values_of_graded_scores_agree(seed: int) -> None:
    draw = np.random.default_rng(seed)
    before = draw.beta(5, 4, 150)
    change = graded_change(
        before, shaken(draw, before, 0.15, loss=0.01 * seed), np.arange(150) // 3
    )
    low, high = change.interval
    for margin in (0.01, 0.02, 0.04, 0.08):
        assert (noninferiority_p(change, margin) <= LEVEL) is (low > -margin)
    assert (change.worse_p <= LEVEL) is (high < 0)
    assert (change.better_p <= LEVEL) is (low > 0)


def test_swapping_before_and_after_mirrors_the_interval_of_graded_scores() -> None:
    draw = np.random.default_rng(0)
    before = draw.beta(5, 4, 90)
    after = shaken(draw, before, 0.2, loss=0.05)
    there, back = graded_change(before, after), graded_change(after, before)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.worse_p == pytest.approx(back.better_p)


def test_many_graded_items_have_students_interval() -> None:
    draw = np.random.default_rng(0)
    before = draw.beta(5, 4, 20_000)
    after = shaken(draw, before, 0.2)
    expected = stats.ttest_rel(after, before).confidence_interval(0.9)
    assert graded_change(before, after).interval == pytest.approx(
        (expected.low, expected.high), abs=3e-4
    )


def test_a_handful_of_changed_graded_items_proves_no_loss() -> None:
    before = np.full(200, 0.9)
    after = np.where(np.arange(200) < 4, 0.1, before)
    assert graded_change(before, after).worse_p >= 1 / 16


def test_graded_items_in_clusters_prove_less() -> None:
    scores = np.linspace(0.3, 0.9, 600)
    lows = [
        graded_change(scores, scores, np.arange(600) // size).interval[0] for size in (1, 5, 20)
    ]
    assert all(alone > together for alone, together in pairwise(lows))


def test_an_exam_that_lost_everything_has_an_interval() -> None:
    change = graded_change(np.full(40, 0.5), np.zeros(40))
    assert change.interval[0] <= -0.5 <= change.interval[1] < 0
    nothing = graded_change(np.zeros(40), np.zeros(40))
    assert nothing.interval[0] < 0 < nothing.interval[1]


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_the_graded_items_needed_give_the_power_they_promise(noise: float) -> None:
    draw = np.random.default_rng(0)
    before = draw.beta(5, 4, 1000)
    n = items_needed(graded_change(before, shaken(draw, before, noise)), 0.02, LEVEL)
    runs, within = 80, 0
    for _ in range(runs):
        before = draw.beta(5, 4, n)
        after = shaken(draw, before, noise)
        within += noninferiority_p(graded_change(before, after), 0.02) <= LEVEL
    assert within / runs > 0.75


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_a_graded_loss_of_the_minimum_detectable_effect_is_detected(noise: float) -> None:
    draw, worse, runs = np.random.default_rng(0), 0, 80
    for _ in range(runs):
        before = draw.beta(5, 4, 300)
        same = graded_change(before, shaken(draw, before, noise))
        effect = minimum_detectable_effect(same, LEVEL)
        lost = draw.random(300) < effect * 9 / 5
        after = np.where(lost, 0.0, shaken(draw, before, noise))
        worse += graded_change(before, after).worse_p <= LEVEL
    assert 0.6 < worse / runs < 0.97
