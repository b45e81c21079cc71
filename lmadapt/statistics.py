"""Statistics of paired, clustered evaluation items: intervals, tests against a margin, and what they can see."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, ndtri, stdtr, stdtrit

from lmadapt.errors import UserError

Interval = tuple[float, float]
Array = NDArray[Any]

POWER = 0.8  # Cohen 1988, Statistical Power Analysis: the convention
RESAMPLES = 2000  # Efron & Tibshirani 1993: over 1,000 for percentile intervals


@dataclass(frozen=True)
class PairedChange:
    """How accuracy changed on items that two models answered; shares of 1, not points."""

    n: int  # items
    clusters: int
    difference: float  # after minus before
    standard_error: float  # cluster-robust
    interval: Interval
    lost: int  # right before, wrong after
    gained: int
    mcnemar_p: float  # two-sided, exact
    better_p: float  # one-sided, against "not better"
    worse_p: float  # one-sided, against "not worse"


def cluster_standard_error(values: Array, clusters: Array) -> tuple[float, int]:
    """Standard error of the mean of `values` when values of one cluster are correlated; and the number of clusters.

    sqrt(G/(G-1) * sum_g (sum_{i in g} (v_i - mean))^2) / n: Liang & Zeger 1986, with the correction CR1 for G
    clusters (Cameron & Miller 2015). With clusters of one it is the usual s/sqrt(n).
    Raises UserError when there are fewer than two clusters.
    """
    groups, codes = np.unique(clusters, return_inverse=True)
    if len(groups) < 2:
        raise UserError(
            f"all {len(values)} items belong to one cluster, {str(groups[0])!r}: no variance can be estimated"
        )
    sums = np.bincount(codes, weights=values - values.mean())
    return float(np.sqrt(len(groups) / (len(groups) - 1) * np.sum(sums**2)) / len(values)), len(groups)


def wilson_interval(successes: float, n: float, z: float) -> Interval:
    """Interval of a proportion by inverting the score test (Wilson 1927); z: normal quantile, 1.645 for 90 %."""
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def accuracy_interval(correct: Array, clusters: Array, significance: float) -> Interval:
    """Two-sided interval of an accuracy at confidence 1 - 2 * `significance`.

    Wilson's interval at the effective sample size p(1-p)/SE^2, with Student's quantile on G - 1 degrees of freedom
    (Korn & Graubard 1998; Dean & Pagano 2015); never more than the true sample size.
    """
    n, share = len(correct), float(np.mean(correct))
    error, groups = cluster_standard_error(correct, clusters)
    effective = min(n, share * (1 - share) / error**2) if error > 0 else n
    return wilson_interval(share * effective, effective, float(stdtrit(groups - 1, 1 - significance)))


def mcnemar_p(lost: int, gained: int) -> float:
    """Two-sided exact p-value that losses and gains are equally likely (McNemar 1947, exact binomial form)."""
    return min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5)))


def difference_interval(difference: float, error: float, n: int, quantile: float) -> Interval:
    """The differences that a two-sided test does not reject; `quantile` is that of Student's t.

    Wald's interval, widened by what the hypothesis implies: a true difference d needs at least a share |d| of items
    that change, hence a variance of at least |d|(1-|d|)/n. Without a single change it is Tango's score interval
    (Tango 1998) q^2/(n + q^2) instead of one of no width.
    """

    def lower(mean: float) -> float:
        ratio = quantile**2 / n
        edges = [mean - quantile * error]
        for sign in (-1, 1):  # differences below and above zero: roots of (mean - d)^2 = ratio |d| (1 - |d|)
            half = ratio / 2 + sign * mean
            inside = half**2 - (1 + ratio) * mean**2
            if half > 0 and inside >= 0:
                edges.append(sign * (half - sign * np.sqrt(inside)) / (1 + ratio))
        return max(-1.0, float(min(edges)))

    return lower(difference), -lower(-difference)


def paired_change(before: Array, after: Array, clusters: Array, significance: float) -> PairedChange:
    """Compare 0/1 scores of the same items in the same order; the interval has confidence 1 - 2 * `significance`.

    The one-sided p-values are the larger of two: Student's t on the cluster-robust error, which allows for items
    that change together, and McNemar's exact test, which holds when only a handful of items change.
    """
    difference = after - before
    mean = float(difference.mean())
    error, groups = cluster_standard_error(difference, clusters)
    lost, gained = int(np.sum(difference < 0)), int(np.sum(difference > 0))
    quantile = float(stdtrit(groups - 1, 1 - significance))
    return PairedChange(
        n=len(difference),
        clusters=groups,
        difference=mean,
        standard_error=error,
        interval=difference_interval(mean, error, len(difference), quantile),
        lost=lost,
        gained=gained,
        mcnemar_p=mcnemar_p(lost, gained),
        better_p=max(_t_p(mean, error, groups), float(bdtr(lost, lost + gained, 0.5))),
        worse_p=max(_t_p(-mean, error, groups), float(bdtr(gained, lost + gained, 0.5))),
    )


def noninferiority_p(change: PairedChange, margin: float) -> float:
    """One-sided p-value against "accuracy fell by `margin` or more" (Blackwelder 1982, on the cluster-robust error).

    Were the hypothesis true, at least a share `margin` of items would change, so the error is taken to be no
    smaller than sqrt(margin (1 - margin) / n): the restricted variance of Nam 1997 and Tango 1998. Few items
    therefore prove nothing, even when none of them changed.
    """
    floor = float(np.sqrt(margin * (1 - margin) / change.n))
    return _t_p(change.difference + margin, max(change.standard_error, floor), change.clusters)


def holm(p_values: ArrayLike) -> Array:
    """Holm's step-down adjustment (Holm 1979): compare each result with the level of the whole family."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def minimum_detectable_effect(change: PairedChange, significance: float) -> float:
    """The smallest true change that a one-sided test on these items would show with a power of 0.8.

    (t_level + t_power) * SE (Bloom 1995), and no less than what the smallest possible variance of such a change
    allows (see `difference_interval`).
    """
    steps = float(np.sum(stdtrit(change.clusters - 1, [1 - significance, POWER])))
    return max(steps * change.standard_error, steps**2 / (change.n + steps**2))


def items_needed(change: PairedChange, effect: float, significance: float) -> int:
    """How many items like these give a power of 0.8 to tell a change of `effect` from none (or none from a margin).

    n = (z_level + z_power)^2 * variance / effect^2 (Chow, Shao & Wang 2008), where the variance of one item is
    n * SE^2, clustering included, and at least |effect| (1 - |effect|).
    """
    size = abs(effect)
    variance = max(change.n * change.standard_error**2, size * (1 - size))
    return int(np.ceil(float(np.sum(ndtri([1 - significance, POWER]))) ** 2 * variance / effect**2))


def bootstrap_ratio(
    numerators: Array, denominators: Array, clusters: Array, *, significance: float, seed: int
) -> list[Interval]:
    """Percentile intervals of sum(numerator) / sum(denominator), resampling whole clusters (Davison & Hinkley 1997).

    numerators: (k, n), one row a quantity, all resampled alike; denominators and clusters: (n,).
    """
    groups, codes = np.unique(clusters, return_inverse=True)
    totals = np.stack([np.bincount(codes, weights=row) for row in (*numerators, denominators)])
    drawn = np.random.default_rng(seed).integers(len(groups), size=(RESAMPLES, len(groups)))
    sums = totals[:, drawn].sum(axis=2)
    ends = np.quantile(sums[:-1] / sums[-1], [significance, 1 - significance], axis=1)
    return [(float(low), float(high)) for low, high in ends.T]


def _t_p(estimate: float, error: float, groups: int) -> float:
    """P(T >= estimate / error) for Student's t on groups - 1 degrees of freedom; 0.5 when nothing varies at zero."""
    if error == 0:
        return 0.5 if estimate == 0 else float(estimate < 0)
    return float(stdtr(groups - 1, -estimate / error))
