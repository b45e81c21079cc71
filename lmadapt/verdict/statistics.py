"""Statistics of paired, clustered evaluation items: intervals, tests against a margin, power.

Scores and their differences are shares of 1, not points.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import bdtr, chdtri, ndtri, stdtr, stdtrit

from lmadapt.core.errors import UserError

Interval = tuple[float, float]
Array = NDArray[Any]

POWER = 0.8  # Cohen 1988, Statistical Power Analysis: the convention
RESAMPLES = 2000  # Efron & Tibshirani 1993: over 1,000 for percentile intervals
# Changed items of which all 4,096 sign patterns are tried. With more, Student's t suffices.
MAX_FLIPPED = 12


@dataclass(frozen=True)
class ClusteredMean:
    """How precise the mean of clustered values is."""

    n: int
    clusters: int
    standard_error: float  # cluster-robust
    degrees_of_freedom: float  # of Student's t for that error
    effective_n: float  # how many independent values would be as precise; at most n


@dataclass(frozen=True)
class GradedMoments:
    """Means over items of graded scores, from which `graded_null_error` follows."""

    before: float  # mean score
    after: float
    before_square: float  # mean of the squared scores
    after_square: float
    change_square: float  # mean of the squared changes

    @property
    def whole_loss(self) -> float:
        """Mean loss of items that lose everything, if the loss is likelier the higher the score.

        It is sum(score^2) / sum(score), and 1 for right and wrong answers.
        """
        return self.before_square / self.before if self.before > 0 else 1.0

    @property
    def whole_gain(self) -> float:
        """The same of items that gained all of their score."""
        return self.after_square / self.after if self.after > 0 else 1.0


@dataclass(frozen=True)
class PairedChange(ClusteredMean):
    """How scores changed on items that two models answered."""

    difference: float  # mean score after minus before
    interval: Interval
    lost: int  # items with a lower score than before
    gained: int
    mcnemar_p: float  # two-sided, exact (McNemar 1947); for graded scores it is the sign test
    better_p: float  # one-sided, against "not better"
    worse_p: float  # one-sided, against "not worse"
    moments: GradedMoments | None = None  # of graded scores; None for right and wrong answers


def clustered_mean(values: Array, clusters: Array, *, whole: float = 1.0) -> ClusteredMean:
    """Precision of the mean of `values` when values of one cluster are correlated.

    values, clusters: (n,); whole: how far a value may change, 1 for right and wrong answers.
    Raises UserError for fewer than two clusters.

    Standard error: CR2 (Bell & McCaffrey 2002). For a mean it is
    sqrt(sum_g u_g^2 / (1 - h_g)) / n, with u_g the sum of the deviations in cluster g, and h_g the
    share of the values that are in it. Degrees of freedom: Satterthwaite's (Pustejovsky & Tipton
    2018). Effective n: n / design effect (Kish 1965). The design effect includes one imagined
    cluster of mean size whose values changed by `whole`, as Agresti & Min 2005 add pairs.
    """
    groups, codes = np.unique(clusters, return_inverse=True)
    if len(groups) < 2:
        raise UserError(
            f"all {len(values)} items belong to one cluster, {str(groups[0])!r}; at least two "
            "clusters are needed to estimate a variance"
        )
    n, deviations = len(values), values - values.mean()
    shares = np.bincount(codes) / n
    between = float(np.sum(np.bincount(codes, weights=deviations) ** 2 / (1 - shares)))
    evenness, leverage = float(np.sum(shares**2)), shares**2 / (1 - shares)
    freedom = 1 / (evenness + np.sum(leverage) ** 2 - np.sum(leverage**2))
    size, squared = n * evenness, whole**2
    within = float(np.sum(deviations**2))
    design_effect = max(1.0, (between + squared * size**2) / (within + squared * size))
    return ClusteredMean(
        n, len(groups), float(np.sqrt(between)) / n, float(freedom), n / design_effect
    )


def wilson_interval(successes: float, n: float, z: float) -> Interval:
    """Interval of a proportion, from inverting the score test (Wilson 1927).

    z: the normal quantile, 1.645 for 90 % confidence.
    """
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def accuracy_interval(scores: Array, clusters: Array, significance: float) -> Interval:
    """Two-sided interval of a mean of scores from 0 to 1, at confidence 1 - 2 * `significance`.

    scores, clusters: (n,). Wilson's interval with Student's quantile, at the sample size
    share (1 - share) / SE^2 (Korn & Graubard 1998; Dean & Pagano 2015). That size is at most n for
    right and wrong answers; it is the effective n where all clusters have the same mean.
    """
    share, mean = float(np.mean(scores)), clustered_mean(scores, clusters)
    effective = mean.effective_n
    if mean.standard_error > 1e-9:
        effective = share * (1 - share) / mean.standard_error**2
    if np.isin(scores, (0, 1)).all():
        effective = min(effective, len(scores))
    quantile = float(stdtrit(mean.degrees_of_freedom, 1 - significance))
    return wilson_interval(share * effective, effective, quantile)


def chance_adjusted(share: float, chance: float) -> float:
    """The share of right answers beyond guessing: (share - chance) / (1 - chance).

    Abbott 1925; it has the form of Cohen's kappa (1960). 0 is as good as guessing, negative is
    worse. It is linear in `share`, so it also adjusts the ends of an interval.
    Raises UserError unless 0 <= chance < 1.
    """
    if not 0 <= chance < 1:
        raise UserError(
            f"the chance of guessing right is {chance}; allowed: 0 or more, and less than 1"
        )
    return (share - chance) / (1 - chance)


def exact_p(differences: Array) -> tuple[float, float]:
    """One-sided p-values against "not better" and "not worse" that are valid for few changed items.

    differences: (n,). Where each change is 1 or -1, the test is McNemar's. Otherwise it is the
    sign-flip test of the mean (Fisher 1935; Pitman 1937), which equals McNemar's for changes of 1
    and -1. Above MAX_FLIPPED changes it adds nothing to a t test, and the result is (0, 0).
    """
    changed, gained = differences[differences != 0], int(np.sum(differences > 0))
    if (np.abs(changed) == 1).all():
        lost = len(changed) - gained
        return float(bdtr(lost, len(changed), 0.5)), float(bdtr(gained, len(changed), 0.5))
    if len(changed) > MAX_FLIPPED:
        return 0.0, 0.0
    sums = np.array(list(product((-1, 1), repeat=len(changed)))) @ np.abs(changed)
    better = np.mean(sums >= changed.sum() - 1e-9)
    worse = np.mean(sums <= changed.sum() + 1e-9)
    return float(better), float(worse)


def null_error(mean: ClusteredMean, lost: float, gained: float, difference: float) -> float:
    """Standard error of a mean change under the hypothesis that the true change is `difference`.

    lost, gained: shares of the items. The cluster-robust error is enlarged by the ratio of Tango's
    (1998) variance, whose shares are estimated under the hypothesis, to the plain variance. It is
    at least sqrt(|difference| (1 - |difference|) / effective n), the smallest error that right and
    wrong answers can have: few items prove nothing, even if none changed. For scores in between
    both steps make the error larger than needed, never smaller.
    """
    if difference < 0:
        lost, gained, difference = gained, lost, -difference
    slope = lost * (1 - difference) + gained * (1 + difference) - 2 * difference
    least, plain = difference * (1 - difference), lost + gained - (gained - lost) ** 2
    variance = (slope + math.sqrt(max(0.0, slope**2 + 8 * lost * least))) / 2 + least
    return _enlarged(mean, variance, plain, least)


def graded_null_error(
    mean: ClusteredMean, moments: GradedMoments, seen: float, difference: float
) -> float:
    """`null_error` of graded scores; `seen` is the mean change.

    A graded score can change a little on every item, so the floor of right and wrong answers does
    not hold. Losses can also be rare and whole, and then a sample without them has a small error
    and proves too much. The hypothesis therefore explains what the sample lacks by whole items:
    a share s of the items lost everything, and the others changed as seen. With the mean score
    after, s = (seen - difference) / after, and the variance of one item is
    (1 - s) mean(change^2) + s mean(before^2) - difference^2. Where the hypothesis is above what was
    seen, items gained all that they have, and before and after change places. The least error is
    that of whole items alone, with |difference| (whole loss - |difference|) for an item's variance:
    the floor of right and wrong answers where scores are 0 and 1.
    """
    if seen >= difference:
        start, square = moments.after, moments.before_square
    else:
        start, square = moments.before, moments.after_square
    share = min(1.0, abs(seen - difference) / start) if start > 0 else 0.0
    variance = (1 - share) * moments.change_square + share * square - difference**2
    plain, size = moments.change_square - seen**2, abs(difference)
    whole = moments.whole_loss if difference < 0 else moments.whole_gain
    return _enlarged(mean, variance, plain, size * max(0.0, whole - size))


def _enlarged(mean: ClusteredMean, variance: float, plain: float, least: float) -> float:
    """The cluster-robust error, enlarged as `variance` is over `plain`, and at least by `least`.

    All three are variances of one item.
    """
    ratio = max(1.0, variance / plain) if plain > 0 else 1.0
    return math.sqrt(max(mean.standard_error**2 * ratio, least / mean.effective_n))


def difference_interval(
    seen: float,
    error: Callable[[float], float],
    *,
    degrees_of_freedom: float,
    significance: float,
) -> Interval:
    """The true differences that no one-sided test at level `significance` rejects.

    `seen` is the mean difference; `error` gives the standard error under the hypothesis that the
    true difference is its argument: see `null_error`.
    """
    quantile = float(stdtrit(degrees_of_freedom, 1 - significance))

    def excess(true: float) -> float:
        return abs(seen - true) - quantile * error(true)

    def end(farthest: float, nearest: float) -> float:
        if excess(farthest) <= 0:
            return farthest
        return seen if excess(nearest) >= 0 else float(brentq(excess, farthest, nearest))

    return end(-1.0, seen - 1e-9), end(1.0, seen + 1e-9)


def paired_change(
    before: Array, after: Array, clusters: Array, significance: float, *, graded: bool = False
) -> PairedChange:
    """Compare scores (0 to 1) of the same items in the same order; all arrays are (n,).

    graded: whether the scores of multiple-choice items are probabilities (`graded_scores`), so that
    most items change a little; the errors are then those of `graded_null_error`.
    The interval has confidence 1 - 2 * `significance`. Each one-sided p-value is the larger of two:
    Student's t on the cluster-robust error, which allows for items that change together, and the
    exact test, which is valid when few items change.
    """
    differences = after - before
    moments = _moments(before, after) if graded else None
    whole = max(moments.whole_loss, moments.whole_gain) if moments else 1.0
    mean = clustered_mean(differences, clusters, whole=whole)
    difference = float(differences.mean())
    lost, gained = int(np.sum(differences < 0)), int(np.sum(differences > 0))

    def error(true: float) -> float:
        if moments:
            return graded_null_error(mean, moments, difference, true)
        return null_error(mean, lost / mean.n, gained / mean.n, true)

    freedom = mean.degrees_of_freedom
    interval = difference_interval(
        difference, error, degrees_of_freedom=freedom, significance=significance
    )
    better_p, worse_p = exact_p(differences)
    unchanged = error(0.0) if moments else mean.standard_error
    return PairedChange(
        **vars(mean),
        difference=difference,
        interval=interval,
        lost=lost,
        gained=gained,
        mcnemar_p=min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5))),
        better_p=max(_t_p(difference, unchanged, freedom), better_p),
        worse_p=max(_t_p(-difference, unchanged, freedom), worse_p),
        moments=moments,
    )


def _moments(before: Array, after: Array) -> GradedMoments:
    return GradedMoments(
        before=float(before.mean()),
        after=float(after.mean()),
        before_square=float(np.mean(before**2)),
        after_square=float(np.mean(after**2)),
        change_square=float(np.mean((after - before) ** 2)),
    )


def noninferiority_p(change: PairedChange, margin: float) -> float:
    """One-sided p-value against "the score fell by `margin` or more" (Blackwelder 1982).

    The error is `null_error` at the margin, of graded scores `graded_null_error`.
    """
    if change.moments:
        error = graded_null_error(change, change.moments, change.difference, -margin)
    else:
        error = null_error(change, change.lost / change.n, change.gained / change.n, -margin)
    return _t_p(change.difference + margin, error, change.degrees_of_freedom)


def holm(p_values: ArrayLike) -> Array:
    """Holm's step-down adjustment (Holm 1979) of p-values, (k,).

    Compare each adjusted value with the level of the whole family.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def minimum_detectable_effect(change: PairedChange, significance: float) -> float:
    """The smallest true change that a one-sided test on these items shows with a power of 0.8.

    (t_level + t_power) * SE (Bloom 1995), plus 1 / n because items change one by one, and at least
    what `null_error` allows. Of graded scores it is the change e = (t_level + t_power) * error,
    where a change by whole items adds e * whole loss / effective n to the squared error, as in
    `graded_null_error`.
    """
    steps = float(np.sum(stdtrit(change.degrees_of_freedom, [1 - significance, POWER])))
    if change.moments:
        half = steps**2 * change.moments.whole_loss / change.effective_n / 2
        return half + math.hypot(half, steps * change.standard_error)
    least = steps**2 / (change.effective_n + steps**2)
    return max(steps * change.standard_error + 1 / change.n, least)


def items_needed(change: PairedChange, effect: float, significance: float) -> int:
    """How many items like these tell a change of `effect` from none with a power of 0.8.

    As many tell no change from a margin of that size.

    n = (z_level + z_power)^2 * variance / effect^2 (Chow, Shao & Wang 2008), plus 2 / |effect| for
    the continuity of the exact test (Casagrande, Pike & Smith 1978). The variance of one item is
    n * SE^2 at its upper 80 % limit, because it is only estimated (Browne 1995), and at least
    |effect| (1 - |effect|) times the design effect. Of graded scores, z_level takes the variance
    under the hypothesis, which adds |effect| * whole loss times the design effect, and no test is
    exact.
    """
    size, freedom = abs(effect), change.degrees_of_freedom
    upper = change.n * change.standard_error**2 * freedom / float(chdtri(freedom, POWER))
    design_effect = change.n / change.effective_n
    level, power = ndtri([1 - significance, POWER]).tolist()
    if change.moments:
        supposed = upper + size * change.moments.whole_loss * design_effect
        steps = level * math.sqrt(supposed) + power * math.sqrt(upper)
        return math.ceil(steps**2 / size**2)
    variance = max(upper, size * (1 - size) * design_effect)
    return math.ceil((level + power) ** 2 * variance / size**2 + 2 / size)


def bootstrap_ratio(
    numerators: Array, denominators: Array, clusters: Array, *, significance: float, seed: int
) -> list[Interval]:
    """Percentile intervals of sum(numerator) / sum(denominator), resampling whole clusters.

    Davison & Hinkley 1997. numerators: (k, n), one row for each quantity; all rows share the same
    resamples, which `seed` draws. denominators, clusters: (n,). The result has k intervals.
    """
    groups, codes = np.unique(clusters, return_inverse=True)
    totals = np.stack([np.bincount(codes, weights=row) for row in (*numerators, denominators)])
    drawn = np.random.default_rng(seed).multinomial(
        len(groups), np.full(len(groups), 1 / len(groups)), RESAMPLES
    )
    sums = totals @ drawn.T.astype(float)
    ends = np.quantile(sums[:-1] / sums[-1], [significance, 1 - significance], axis=1)
    return [(float(low), float(high)) for low, high in ends.T]


def _t_p(estimate: float, error: float, degrees_of_freedom: float) -> float:
    """P(T >= estimate / error) for Student's t; 0.5 when nothing varies at zero."""
    if error == 0:
        return 0.5 if estimate == 0 else float(estimate < 0)
    return float(stdtr(degrees_of_freedom, -estimate / error))
