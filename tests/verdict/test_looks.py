"""Levels of several looks, against published tables and simulated truth."""

import numpy as np
import pytest
from scipy.special import ndtri

from lmadapt.verdict.looks import (
    bet_on,
    boundaries,
    obrien_fleming_spending,
    planned_level,
    verdict_level,
)
from lmadapt.verdict.statistics import noninferiority_p, paired_change


@pytest.mark.parametrize(
    ("looks", "significance", "published"),
    [
        # Proschan, Lan & Wittes 2006, Statistical Monitoring of Clinical Trials, and R's gsDesign:
        # the O'Brien-Fleming-like spending function of Lan & DeMets at equal steps.
        (2, 0.025, [2.963, 1.969]),
        (3, 0.025, [3.710, 2.511, 1.993]),
        (5, 0.025, [4.877, 3.357, 2.680, 2.290, 2.031]),
        (3, 0.05, [3.200, 2.141, 1.695]),
    ],
)
def test_boundaries_are_those_of_published_tables(
    looks: int, significance: float, published: list[float]
) -> None:
    shares = [look / looks for look in range(1, looks + 1)]
    spent = [obrien_fleming_spending(share, significance) for share in shares]
    assert boundaries(shares, spent) == pytest.approx(published, abs=6e-4)


def test_one_sided_0_05_with_three_classic_obrien_fleming_looks_is_spent_exactly() -> None:
    # Jennison & Turnbull 2000, table 2.3 at two-sided 0.1: the constant is 1.710.
    constant = 1.710
    draw = np.random.default_rng(0).normal(size=(400_000, 3)).cumsum(axis=1) / np.sqrt([1, 2, 3])
    crossed = draw >= constant * np.sqrt(3 / np.array([1, 2, 3]))
    spent = [float(np.mean(crossed[:, : look + 1].any(axis=1))) for look in range(3)]
    found = boundaries([1, 2, 3], spent)
    assert found == pytest.approx(constant * np.sqrt(3 / np.array([1, 2, 3])), abs=0.02)


def test_looks_as_planned_keep_the_level_and_unplanned_ones_do_not() -> None:
    significance, looks = 0.05, 5
    paths = np.random.default_rng(1).normal(size=(100_000, looks)).cumsum(axis=1)
    z = paths / np.sqrt(np.arange(1, looks + 1))
    levels = [
        planned_level(significance, looks=looks, items=200 * look, planned_items=1000)
        for look in range(1, looks + 1)
    ]
    planned = np.mean((z >= -ndtri(levels)).any(axis=1))
    naive = np.mean((z >= -ndtri(significance)).any(axis=1))
    assert planned == pytest.approx(significance, abs=0.003)
    assert naive > 0.12
    assert levels[-1] > 0.8 * significance  # the last look costs little


def test_more_items_than_planned_spend_what_is_left() -> None:
    exactly, more = (
        planned_level(0.05, looks=3, items=items, planned_items=900) for items in (900, 1200)
    )
    assert more < 0.05
    assert more == pytest.approx(exactly, abs=0.005)


def test_candidates_divide_the_level_before_looks_do() -> None:
    plain = {"items": 500, "planned_items": None}
    assert verdict_level(0.05, candidates=1, looks=1, **plain) == 0.05
    assert verdict_level(0.05, candidates=10, looks="any", **plain) == pytest.approx(0.005)
    assert verdict_level(0.05, candidates=2, looks=3, items=500, planned_items=1500) == (
        planned_level(0.025, looks=3, items=500, planned_items=1500)
    )


def drawn(draw: np.random.Generator, n: int, lost: float, gained: float) -> np.ndarray:
    return draw.choice([-1.0, 0.0, 1.0], n, p=[lost, 1 - lost - gained, gained])


def test_bets_are_wrong_at_most_as_often_as_the_level_says_over_all_looks() -> None:
    draw, wrong = np.random.default_rng(2), 0
    for _ in range(400):
        differences = drawn(draw, 1000, 0.10, 0.05)  # the true loss is the margin of 5 points
        looks = range(50, 1001, 50)
        ps = [bet_on(differences[:n], np.arange(n)).p_above(-0.05) for n in looks]
        wrong += min(ps) <= 0.05
    assert wrong / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_bets_find_a_true_gain_with_not_much_more_items() -> None:
    draw = np.random.default_rng(3)
    found = [
        bet_on(drawn(draw, 2000, 0.05, 0.09), np.arange(2000)).p_above(0) <= 0.05
        for _ in range(100)
    ]
    # The fixed test with the same items has a power of 0.999.
    assert np.mean(found) > 0.9


def test_the_order_of_clusters_does_not_matter_to_bets() -> None:
    draw = np.random.default_rng(4)
    differences, clusters = drawn(draw, 300, 0.05, 0.15), np.arange(300) // 3
    order = draw.permutation(300)
    one, other = bet_on(differences, clusters), bet_on(differences[order], clusters[order])
    assert one.p_above(0) == pytest.approx(other.p_above(0))
    assert one.interval(0.05) == pytest.approx(other.interval(0.05))


def test_items_that_change_together_count_as_one_bet() -> None:
    differences = np.repeat(drawn(np.random.default_rng(5), 100, 0.05, 0.25), 5)
    alone = bet_on(differences, np.arange(500)).p_above(0)
    together = bet_on(differences, np.arange(500) // 5).p_above(0)
    assert together > alone
    single = bet_on(differences[::5], np.arange(100)).p_above(0)
    assert together == pytest.approx(single, rel=30)  # the size is rounded up to 8


@pytest.mark.parametrize("bound", [-0.05, 0.0, 0.03])
def test_the_interval_of_bets_ends_where_they_stop_rejecting(bound: float) -> None:
    game = bet_on(drawn(np.random.default_rng(6), 1500, 0.04, 0.06), np.arange(1500))
    low, high = game.interval(0.05)
    assert (game.p_above(bound) <= 0.05) == (low >= bound)
    assert (game.p_below(bound) <= 0.05) == (high <= bound)
    assert low < float(game.sums.sum() / 1500) < high


def test_bets_at_the_ends_of_the_scale_have_intervals() -> None:
    for value in (-1.0, 0.0, 1.0):
        low, high = bet_on(np.full(60, value), np.arange(60)).interval(0.05)
        assert -1 <= low <= value <= high <= 1


def test_a_change_at_any_look_is_judged_by_bets_alone() -> None:
    before, clusters = np.ones(800), np.arange(800)
    after = np.where(clusters < 20, 0.0, 1.0)
    fixed, betting = (
        paired_change(before, after, clusters, 0.05, at_any_look=bets) for bets in (False, True)
    )
    game = bet_on(after - before, clusters)
    assert betting.interval == game.interval(0.05)
    assert (betting.better_p, betting.worse_p) == (game.p_above(0), game.p_below(0))
    assert noninferiority_p(betting, 0.05) == game.p_above(-0.05)
    assert noninferiority_p(betting, 0.05) > noninferiority_p(fixed, 0.05)
