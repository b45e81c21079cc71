import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.optimize import minimize_scalar
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from lmadapt.core.errors import UserError
from lmadapt.verdict.hypotheses import null_error
from lmadapt.verdict.statistics import (
    ClusteredMean,
    clustered_mean,
    exact_p,
    holm,
    noninferiority_p,
    paired_change,
)

CASES = range(20)


def random_pairs(
    seed: int, *, items: int = 200, clusters: int = 40
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    cluster = draw.integers(clusters, size=items)
    skill = draw.normal(0, 0.2, clusters)[cluster]
    before, after = (draw.random((2, items)) < 0.6 + skill).astype(float)
    return before, after, cluster


@pytest.mark.parametrize("seed", CASES)
def test_cluster_error_of_equal_clusters_agrees_with_statsmodels(seed: int) -> None:
    before, after, _ = random_pairs(seed)
    cluster = np.random.default_rng(seed).permutation(np.arange(200) % 40)
    fit = sm.OLS(after - before, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    mean = clustered_mean(after - before, cluster)
    assert (mean.n, mean.clusters) == (200, 40)
    assert (mean.standard_error, mean.degrees_of_freedom) == pytest.approx((fit.bse[0], 39))


def bell_mccaffrey(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """CR2 error and Satterthwaite degrees of freedom of a mean, by matrices.

    Pustejovsky & Tipton 2018.
    """
    n = len(values)
    residual_maker = np.eye(n) - 1 / n
    weights = []  # p_g: the variance estimate is the sum of (p_g' y)^2
    for group in np.unique(clusters):
        inside = clusters == group
        block = residual_maker[np.ix_(inside, inside)]
        roots, vectors = np.linalg.eigh(block)
        adjustment = vectors @ np.diag(roots**-0.5) @ vectors.T
        weights.append(residual_maker[:, inside] @ adjustment @ np.full(inside.sum(), 1 / n))
    products = np.array(weights) @ np.array(weights).T
    error = np.sqrt(np.sum((np.array(weights) @ values) ** 2))
    return float(error), float(np.trace(products) ** 2 / np.sum(products**2))


@pytest.mark.parametrize("seed", CASES)
def test_cluster_error_of_unequal_clusters_is_bell_and_mccaffreys(seed: int) -> None:
    draw = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(12), draw.geometric(0.2, 12))
    values = draw.normal(size=len(cluster)) + draw.normal(size=12)[cluster]
    mean = clustered_mean(values, cluster)
    assert (mean.standard_error, mean.degrees_of_freedom) == pytest.approx(
        bell_mccaffrey(values, cluster)
    )


def test_cluster_error_by_hand() -> None:
    # mean 0.5; cluster sums of deviations 1, -1, 0 over 1 - 1/3; sqrt(2 / (2/3)) / 6
    mean = clustered_mean(np.array([1, 1, 0, 0, 1, 0.0]), np.array([0, 0, 1, 1, 2, 2]))
    assert (mean.standard_error, mean.degrees_of_freedom) == (
        pytest.approx(np.sqrt(3) / 6),
        pytest.approx(2),
    )
    # design effect: (3 + 2^2) / (6 * 0.25 + 2) = 2
    assert mean.effective_n == pytest.approx(3)


def test_one_cluster_is_refused() -> None:
    with pytest.raises(UserError, match="belong to one cluster, 'x'"):
        clustered_mean(np.array([1.0, 0.0]), np.array(["x", "x"]))


def test_unchanged_items_count_by_their_clusters() -> None:
    assert clustered_mean(np.zeros(100), np.arange(100)).effective_n == pytest.approx(100)
    assert clustered_mean(np.zeros(100), np.arange(100) // 10).effective_n == pytest.approx(10)
    one_item = np.eye(1, 100)[0]
    assert 10 < clustered_mean(one_item, np.arange(100) // 10).effective_n < 20


@pytest.mark.parametrize("seed", CASES)
def test_mcnemar_agrees_with_statsmodels(seed: int) -> None:
    lost, gained = np.random.default_rng(seed).integers(0, 30, 2).tolist()
    before, after = np.repeat([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [lost, gained, 5], axis=1)
    change = paired_change(before, after, np.arange(len(before)), 0.05)
    assert (change.lost, change.gained) == (lost, gained)
    assert change.mcnemar_p == pytest.approx(mcnemar([[5, lost], [gained, 5]], exact=True).pvalue)


@pytest.mark.parametrize("seed", CASES)
def test_holm_agrees_with_statsmodels(seed: int) -> None:
    p = np.random.default_rng(seed).random(seed + 1) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@pytest.mark.parametrize("seed", CASES)
def test_paired_change_without_clusters_is_the_paired_t_test(seed: int) -> None:
    before, after, _ = random_pairs(seed, items=2000)
    change = paired_change(before, after, np.arange(len(before)), 0.05)
    plain = stats.ttest_rel(after, before).confidence_interval(confidence_level=0.9)
    assert change.interval == pytest.approx((plain.low, plain.high), abs=1e-4)
    assert change.interval[0] <= plain.low + 1e-9
    assert change.interval[1] >= plain.high - 1e-9
    one_sided = stats.ttest_rel(after, before, alternative="less").pvalue
    exact = stats.binomtest(change.lost, change.lost + change.gained, alternative="greater").pvalue
    assert change.worse_p == pytest.approx(max(one_sided, exact), rel=0.02)
    assert change.worse_p >= max(min(one_sided, 0.5), exact) * (1 - 1e-9)
    shifted = stats.ttest_1samp(after - before, -0.02, alternative="greater").pvalue
    assert noninferiority_p(change, 0.02) == pytest.approx(shifted, rel=0.1)
    assert noninferiority_p(change, 0.02) >= shifted * (1 - 1e-9)


@pytest.mark.parametrize("seed", CASES)
@pytest.mark.parametrize("true", [-0.1, 0.03])
def test_null_error_is_tangos_with_the_shares_most_likely_under_the_hypothesis(
    seed: int, true: float
) -> None:
    lost, gained = np.random.default_rng(seed).uniform(0.001, 0.2, 2)
    n, small, large = 500, *((lost, gained) if true > 0 else (gained, lost))

    def unlikelihood(share: float) -> float:
        same = (1 - small - large) * np.log(1 - 2 * share - abs(true))
        return float(-(small * np.log(share) + large * np.log(share + abs(true)) + same))

    fit = minimize_scalar(
        unlikelihood,
        bounds=(1e-12, (1 - abs(true)) / 2 - 1e-9),
        method="bounded",
        options={"xatol": 1e-12},
    )
    variance = 2 * fit.x + abs(true) * (1 - abs(true))
    plain = lost + gained - (lost - gained) ** 2
    mean = ClusteredMean(n, n, float(np.sqrt(plain / n)), n - 1, n)
    assert null_error(mean, lost, gained, true) == pytest.approx(
        np.sqrt(max(variance, plain) / n), rel=1e-4
    )


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


def test_unchanged_items_in_clusters_prove_less() -> None:
    same = np.ones(1000)
    alone, together = (paired_change(same, same, np.arange(1000) // size, 0.05) for size in (1, 10))
    assert noninferiority_p(alone, 0.02) < 0.01
    assert noninferiority_p(together, 0.02) > 0.05


def test_swapping_before_and_after_mirrors_the_interval() -> None:
    before, after, cluster = random_pairs(0)
    there, back = (
        paired_change(*pair, cluster, 0.05).interval for pair in ((before, after), (after, before))
    )
    assert there == pytest.approx((-back[1], -back[0]))


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_is_the_set_of_differences_that_are_not_rejected(seed: int) -> None:
    before, after, cluster = random_pairs(seed, items=90, clusters=30)
    change = paired_change(before, np.where(np.arange(90) < 70, before, after), cluster, 0.05)
    quantile = stats.t.ppf(0.95, change.degrees_of_freedom)
    lost, gained = change.lost / 90, change.gained / 90
    grid = np.linspace(-0.5, 0.5, 2_001)
    errors = np.array([null_error(change, lost, gained, true) for true in grid])
    accepted = grid[abs(change.difference - grid) <= quantile * errors]
    assert change.interval == pytest.approx((accepted[0], accepted[-1]), abs=6e-4)
    for margin in (0.02, 0.05, 0.1, 0.2):
        assert (noninferiority_p(change, margin) <= 0.05) is bool(change.interval[0] >= -margin)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_and_decisions_agree_with_few_clusters_few_changes_and_graded_scores(
    seed: int,
) -> None:
    draw = np.random.default_rng(seed)
    shown = 0
    for _ in range(150):
        clusters, size = int(draw.integers(3, 25)), int(draw.integers(1, 12))
        cluster = np.repeat(np.arange(clusters), size)
        before = (draw.random(len(cluster)) < 0.6).astype(float)
        redrawn = draw.random(len(cluster)) < draw.choice([0.03, 0.2])
        fresh = (draw.random(len(cluster)) < draw.choice([0.3, 0.6, 0.9])).astype(float)
        if draw.random() < 0.3:
            fresh *= draw.random(len(cluster))
        change = paired_change(before, np.where(redrawn, fresh, before), cluster, 0.05)
        low, high = change.interval
        assert (change.worse_p <= 0.05) is (high < 0)
        assert (change.better_p <= 0.05) is (low > 0)
        for margin in (0.01, 0.05, 0.1, 0.3):
            assert (noninferiority_p(change, margin) <= 0.05) is (low > -margin)
        shown += low > 0 or high < 0
    assert shown > 5


def test_the_interval_stays_within_minus_one_and_one() -> None:
    everything = paired_change(np.ones(40), np.zeros(40), np.arange(40), 0.05)
    assert everything.interval == (-1.0, pytest.approx(-1 / (1 + stats.t.ppf(0.95, 39) ** 2 / 40)))


@pytest.mark.parametrize("seed", CASES)
def test_exact_p_of_right_and_wrong_answers_is_the_binomial_test(seed: int) -> None:
    lost, gained = np.random.default_rng(seed).integers(0, 20, 2).tolist()
    changes = np.array([-1.0] * lost + [1.0] * gained + [0.0] * 30)
    expected = [
        stats.binomtest(k, lost + gained, alternative="greater").pvalue if lost + gained else 1.0
        for k in (gained, lost)
    ]
    assert exact_p(changes) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("seed", CASES)
def test_exact_p_of_graded_scores_is_scipys_permutation_test(seed: int) -> None:
    changes = np.random.default_rng(seed).uniform(-1, 0.5, 8)
    for found, alternative in zip(
        exact_p(np.append(changes, np.zeros(50))), ("greater", "less"), strict=True
    ):
        expected = stats.permutation_test(
            (changes,),
            np.mean,
            permutation_type="samples",
            n_resamples=np.inf,
            alternative=alternative,
        )
        assert found == pytest.approx(expected.pvalue)


def test_a_handful_of_graded_changes_proves_no_loss() -> None:
    few, more = np.zeros(200), np.zeros(200)
    few[:4], more[:8] = -0.5, -0.5
    assert stats.ttest_1samp(few, 0, alternative="less").pvalue < 0.05
    few_change, more_change = (
        paired_change(np.ones(200), 1 + loss, np.arange(200), 0.05) for loss in (few, more)
    )
    assert few_change.worse_p == pytest.approx(1 / 16)
    assert more_change.worse_p < 0.01
    assert (few_change.lost, few_change.gained, few_change.mcnemar_p) == (
        4,
        0,
        pytest.approx(1 / 8),
    )


def test_few_large_losses_outweigh_many_small_gains() -> None:
    changes = np.array([-0.9] * 30 + [0.01] * 170)
    change = paired_change(np.full(200, 0.95), 0.95 + changes, np.arange(200), 0.05)
    assert (change.lost, change.gained) == (30, 170)
    assert change.worse_p < 1e-3


def test_graded_scores_that_hardly_vary_get_wide_intervals() -> None:
    """Graded scores may vary less than right and wrong answers, so their intervals are too wide."""
    draw, runs = np.random.default_rng(0), 300
    covered = within = 0
    for _ in range(runs):
        before = draw.beta(6, 4, 300)
        after = np.clip(before + draw.normal(-0.02, 0.05, 300), 0, 1)
        change = paired_change(before, after, np.arange(300), 0.025)
        covered += change.interval[0] <= -0.02 <= change.interval[1]
        within += noninferiority_p(change, 0.02) <= 0.05
    assert covered / runs >= 0.94
    assert within / runs <= 0.05


@pytest.mark.parametrize(
    ("clusters", "size", "lost", "gained", "correlation"),
    [
        (300, 1, 0.05, 0.05, 0.0),
        (60, 5, 0.08, 0.02, 0.3),
        (15, 20, 0.05, 0.05, 0.3),
        (300, 1, 0.01, 0.0, 0.0),
    ],
)
def test_intervals_cover_and_tests_keep_their_level(
    clusters: int, size: int, lost: float, gained: float, correlation: float
) -> None:
    draw, runs = np.random.default_rng(0), 500
    covered = worse = within = 0
    for _ in range(runs):
        cluster = np.repeat(np.arange(clusters), size)
        own, common = draw.random(len(cluster)), draw.random(clusters)[cluster]
        fate = np.where(draw.random(len(cluster)) < np.sqrt(correlation), common, own)
        before, after = (
            (fate < lost).astype(float),
            ((fate >= lost) & (fate < lost + gained)).astype(float),
        )
        change = paired_change(before, after, cluster, 0.05)
        covered += change.interval[0] <= gained - lost <= change.interval[1]
        worse += change.worse_p <= 0.05
        within += lost > gained and noninferiority_p(change, lost - gained) <= 0.05
    assert 0.87 <= covered / runs <= 0.98
    assert within / runs <= 0.09
    if lost == gained:
        assert worse / runs <= 0.07
