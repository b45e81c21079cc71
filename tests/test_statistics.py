import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from lmadapt.errors import UserError
from lmadapt.statistics import (
    accuracy_interval,
    bootstrap_ratio,
    cluster_standard_error,
    difference_interval,
    holm,
    items_needed,
    mcnemar_p,
    minimum_detectable_effect,
    noninferiority_p,
    paired_change,
    wilson_interval,
)

CASES = range(20)


def random_pairs(seed: int, *, items: int = 200, clusters: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    cluster = draw.integers(clusters, size=items)
    skill = draw.normal(0, 0.2, clusters)[cluster]
    before, after = (draw.random((2, items)) < 0.6 + skill).astype(float)
    return before, after, cluster


@pytest.mark.parametrize("seed", CASES)
def test_wilson_agrees_with_statsmodels(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n = int(draw.integers(1, 500))
    successes = int(draw.integers(0, n + 1))
    expected = proportion_confint(successes, n, alpha=0.1, method="wilson")
    assert wilson_interval(successes, n, stats.norm.ppf(0.95)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", CASES)
def test_cluster_error_agrees_with_statsmodels(seed: int) -> None:
    before, after, cluster = random_pairs(seed)
    fit = sm.OLS(after - before, np.ones(len(before))).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    assert cluster_standard_error(after - before, cluster) == (pytest.approx(fit.bse[0]), len(set(cluster)))


def test_cluster_error_by_hand() -> None:
    # mean 0.5; cluster sums of deviations 1, -1, 0; sqrt(3/2 * 2) / 6
    error, groups = cluster_standard_error(np.array([1, 1, 0, 0, 1, 0.0]), np.array([0, 0, 1, 1, 2, 2]))
    assert (error, groups) == (pytest.approx(np.sqrt(3) / 6), 3)


def test_one_cluster_is_an_error() -> None:
    with pytest.raises(UserError, match="belong to one cluster, 'x'"):
        cluster_standard_error(np.array([1.0, 0.0]), np.array(["x", "x"]))


@pytest.mark.parametrize("seed", CASES)
def test_mcnemar_agrees_with_statsmodels(seed: int) -> None:
    lost, gained = np.random.default_rng(seed).integers(0, 30, 2).tolist()
    assert mcnemar_p(lost, gained) == pytest.approx(mcnemar([[5, lost], [gained, 5]], exact=True).pvalue)


@pytest.mark.parametrize("seed", CASES)
def test_holm_agrees_with_statsmodels(seed: int) -> None:
    p = np.random.default_rng(seed).random(seed + 1) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@pytest.mark.parametrize("seed", CASES)
def test_paired_change_without_clusters_is_the_paired_t_test(seed: int) -> None:
    before, after, _ = random_pairs(seed)
    change = paired_change(before, after, np.arange(len(before)), 0.05)
    assert change.interval == pytest.approx(
        stats.ttest_rel(after, before).confidence_interval(confidence_level=0.9), abs=1e-9
    )
    one_sided = stats.ttest_rel(after, before, alternative="less").pvalue
    exact = stats.binomtest(change.lost, change.lost + change.gained, alternative="greater").pvalue
    assert change.worse_p == pytest.approx(max(one_sided, exact))
    shifted = stats.ttest_1samp(after - before, -0.1, alternative="greater").pvalue
    assert noninferiority_p(change, 0.1) == pytest.approx(shifted)


def test_without_a_change_the_interval_is_tangos_score_interval() -> None:
    same = np.ones(100)
    change = paired_change(same, same, np.arange(100), 0.05)
    edge = stats.t.ppf(0.95, 99) ** 2 / (100 + stats.t.ppf(0.95, 99) ** 2)
    assert change.interval == pytest.approx((-edge, edge))
    assert (change.better_p, change.worse_p) == (1.0, 1.0)


@pytest.mark.parametrize(("n", "shown"), [(30, False), (50, False), (60, True)])
def test_few_items_do_not_prove_a_margin_even_if_none_changed(n: int, shown: bool) -> None:
    change = paired_change(np.ones(n), np.ones(n), np.arange(n), 0.05)
    assert (noninferiority_p(change, 0.05) <= 0.05) is shown


def test_the_interval_mirrors_when_before_and_after_swap() -> None:
    low, high = difference_interval(-0.03, 0.01, 80, 1.66)
    assert difference_interval(0.03, 0.01, 80, 1.66) == (pytest.approx(-high), pytest.approx(-low))


def test_the_interval_is_the_set_of_differences_that_are_not_rejected() -> None:
    mean, error, n, quantile = -0.02, 0.009, 90, 1.66
    grid = np.linspace(-0.5, 0.5, 200_001)
    accepted = grid[abs(mean - grid) <= quantile * np.maximum(error, np.sqrt(abs(grid) * (1 - abs(grid)) / n))]
    assert difference_interval(mean, error, n, quantile) == pytest.approx((accepted[0], accepted[-1]), abs=1e-5)


def test_the_interval_of_an_accuracy_widens_with_its_clusters() -> None:
    correct = np.repeat([1.0, 0.0, 1.0, 1.0], 25)
    alone, together = (
        accuracy_interval(correct, clusters, 0.05) for clusters in (np.arange(100), np.repeat(np.arange(20), 5))
    )
    assert alone == pytest.approx(proportion_confint(75, 100, alpha=0.1, method="wilson"), abs=3e-3)
    assert together[0] < alone[0] < alone[1] < together[1]
    assert accuracy_interval(np.ones(100), np.arange(100), 0.05)[1] == pytest.approx(1.0)


def test_effect_and_items_needed_agree() -> None:
    before, after, _ = random_pairs(3, items=4000)
    change = paired_change(before, after, np.arange(4000), 0.05)
    effect = minimum_detectable_effect(change, 0.05)
    assert effect == pytest.approx(change.standard_error * (1.645 + 0.842), rel=1e-2)
    assert items_needed(change, effect, 0.05) == pytest.approx(4000, rel=2e-3)


def test_the_items_needed_give_the_power_they_promise() -> None:
    draw = np.random.default_rng(0)
    before, after = (draw.random((2, 2000)) < 0.7).astype(float)
    n = items_needed(paired_change(before, after, np.arange(2000), 0.05), 0.05, 0.05)
    shown = 0
    for _ in range(400):
        before, after = (draw.random((2, n)) < 0.7).astype(float)
        shown += noninferiority_p(paired_change(before, after, np.arange(n), 0.05), 0.05) <= 0.05
    assert 0.73 < shown / 400 < 0.87


def test_the_bootstrap_covers_a_ratio() -> None:
    draw = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        size = draw.integers(100, 2000, 60).astype(float)
        bits = size * draw.normal(0.9, 0.1, 60)
        ((low, high),) = bootstrap_ratio(bits[None], size, np.arange(60), significance=0.05, seed=seed)
        hits += low <= 0.9 <= high
    assert 0.82 < hits / 200 < 0.96


@pytest.mark.parametrize(
    ("clusters", "size", "lost", "gained", "correlation"),
    [(300, 1, 0.05, 0.05, 0.0), (60, 5, 0.08, 0.02, 0.3), (15, 20, 0.05, 0.05, 0.3), (300, 1, 0.01, 0.0, 0.0)],
)
def test_intervals_cover_and_tests_hold_their_level(
    clusters: int, size: int, lost: float, gained: float, correlation: float
) -> None:
    draw, runs = np.random.default_rng(0), 500
    covered = worse = within = 0
    for _ in range(runs):
        cluster = np.repeat(np.arange(clusters), size)
        own, common = draw.random(len(cluster)), draw.random(clusters)[cluster]
        fate = np.where(draw.random(len(cluster)) < np.sqrt(correlation), common, own)
        before, after = (fate < lost).astype(float), ((fate >= lost) & (fate < lost + gained)).astype(float)
        change = paired_change(before, after, cluster, 0.05)
        covered += change.interval[0] <= gained - lost <= change.interval[1]
        worse += change.worse_p <= 0.05
        within += lost > gained and noninferiority_p(change, lost - gained) <= 0.05
    assert 0.87 <= covered / runs <= 0.98
    assert within / runs <= 0.09
    if lost == gained:
        assert worse / runs <= 0.07
