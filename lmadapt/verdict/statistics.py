"""Statistics of paired, clustered evaluation items: intervals, tests against a margin, power.

Scores and their differences are shares of 1, not points.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, chdtri, ndtri, stdtrit

from lmadapt.core.errors import UserError
from lmadapt.verdict.clustered_mean import Array, ClusteredMean, Interval, clustered_mean
from lmadapt.verdict.hypotheses import (
    GradedMoments,
    Seen,
    difference_interval,
    p_above,
    whole_items_p,
)
from lmadapt.verdict.looks import Betting, bet_on

__all__ = [
    "Array",
    "ClusteredMean",
    "GradedMoments",
    "Interval",
    "PairedChange",
    "accuracy_interval",
    "chance_adjusted",
    "clustered_mean",
    "holm",
    "items_needed",
    "minimum_detectable_effect",
    "noninferiority_p",
    "paired_change",
    "superiority_p",
    "wilson_interval",
]

POWER = 0.8  # Cohen 1988, Statistical Power Analysis: the convention
# Changed items of which all 4,096 sign patterns are tried. With more, Student's t suffices.
MAX_FLIPPED = 12


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
    betting: Betting | None = None  # where the tests must hold however often one looks


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


def paired_change(
    before: Array,
    after: Array,
    clusters: Array,
    significance: float,
    *,
    graded: bool = False,
    at_any_look: bool = False,
) -> PairedChange:
    """Compare scores (0 to 1) of the same items in the same order; all arrays are (n,).

    graded: whether the scores of multiple-choice items are probabilities (`graded_scores`), so that
    most items change a little; the errors are then those of `graded_null_error`.
    The interval has confidence 1 - 2 * `significance`. Each one-sided p-value is the larger of two:
    `p_above`, which allows for items that change together, and the exact test, which is valid when
    few items change; of graded scores also `whole_items_p`. The interval holds 0 unless all agree,
    so that it lies above 0 exactly when `better_p` is below `significance`, and below 0 exactly
    when `worse_p` is. With `at_any_look`, intervals and tests hold at all looks together
    (lmadapt.verdict.looks.Betting).
    """
    differences = after - before
    moments = _moments(before, after) if graded else None
    whole = max(moments.whole_loss, moments.whole_gain) if moments else 1.0
    mean = clustered_mean(differences, clusters, whole=whole)
    lost, gained = int(np.sum(differences < 0)), int(np.sum(differences > 0))
    seen = Seen(mean, float(differences.mean()), lost / mean.n, gained / mean.n, moments)
    betting = bet_on(differences, clusters) if at_any_look else None
    if betting:
        low, high = betting.interval(significance)
        better_p, worse_p = betting.p_above(0), betting.p_below(0)
    else:
        low, high = difference_interval(seen, significance)
        better_p, worse_p = exact_p(differences)
        better_p = max(better_p, p_above(seen, 0.0), whole_items_p(seen))
        worse_p = max(worse_p, p_above(seen.mirrored(), 0.0), whole_items_p(seen.mirrored()))
    return PairedChange(
        **vars(mean),
        difference=seen.difference,
        interval=(
            low if better_p <= significance else min(low, 0.0),
            high if worse_p <= significance else max(high, 0.0),
        ),
        lost=lost,
        gained=gained,
        mcnemar_p=min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5))),
        better_p=better_p,
        worse_p=worse_p,
        moments=moments,
        betting=betting,
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

    See `p_above`; it is below `significance` exactly when the interval ends above -`margin`. Where
    the change is one to bet on, the bets decide.
    """
    if change.betting:
        return change.betting.p_above(-margin)
    return p_above(_seen(change), -margin)


def superiority_p(change: PairedChange, gain: float) -> float:
    """One-sided p-value against "the score rose by `gain` or less"; `gain` is 0 or more.

    It is below `significance` exactly when the interval starts above `gain`. See `p_above`.
    """
    if change.betting:
        return change.betting.p_above(gain)
    return max(change.better_p, p_above(_seen(change), gain))


def _seen(change: PairedChange) -> Seen:
    shares = change.lost / change.n, change.gained / change.n
    return Seen(change, change.difference, *shares, change.moments)


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
    |effect| (1 - |effect|) times the design effect. Of graded scores, a change by whole items adds
    |effect| * whole loss times the design effect, and no test is exact.
    """
    size, freedom = abs(effect), change.degrees_of_freedom
    upper = change.n * change.standard_error**2 * freedom / float(chdtri(freedom, POWER))
    design_effect = change.n / change.effective_n
    squared = float(np.sum(ndtri([1 - significance, POWER]))) ** 2
    if change.moments:
        variance = upper + size * change.moments.whole_loss * design_effect
        return math.ceil(squared * variance / size**2)
    variance = max(upper, size * (1 - size) * design_effect)
    return math.ceil(squared * variance / size**2 + 2 / size)
