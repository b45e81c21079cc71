"""Tests and intervals of a change, as one rule: an interval holds what no test rejects."""

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from lmadapt.verdict.clustered_mean import ClusteredMean, Interval

# True changes that are tried, closer to each other near 0.
HYPOTHESES = tuple(step * abs(step) / 32**2 for step in range(-32, 33))


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

    def mirrored(self) -> "GradedMoments":
        """Those of the change from the later model to the earlier one."""
        return GradedMoments(
            self.after, self.before, self.after_square, self.before_square, self.change_square
        )


def null_error(mean: ClusteredMean, lost: float, gained: float, difference: float) -> float:
    """Standard error of a mean change under the hypothesis that the true change is `difference`.

    lost, gained: shares of the items. The cluster-robust error is enlarged by the ratio of Tango's
    (1998) variance, whose shares are estimated under the hypothesis, to the plain variance. It is
    at least sqrt(|difference| (1 - |difference|) / effective n), the smallest error that right and
    wrong answers can have: few items prove nothing, even if none changed. For scores in between
    both steps make the error larger than needed, never smaller.
    """
    least, plain = abs(difference) * (1 - abs(difference)), lost + gained - (gained - lost) ** 2
    ratio = max(1.0, _supposed_variance(lost, gained, difference) / plain) if plain > 0 else 1.0
    return math.sqrt(max(mean.standard_error**2 * ratio, least / mean.effective_n))


def _supposed_variance(lost: float, gained: float, difference: float) -> float:
    """Tango's (1998) variance of one item, if the true change is `difference`."""
    if difference < 0:
        lost, gained, difference = gained, lost, -difference
    slope = lost * (1 - difference) + gained * (1 + difference) - 2 * difference
    least = difference * (1 - difference)
    return (slope + math.sqrt(max(0.0, slope**2 + 8 * lost * least))) / 2 + least


def graded_null_error(
    mean: ClusteredMean, moments: GradedMoments, seen: float, difference: float
) -> float:
    """`null_error` of graded scores; `seen` is the mean change.

    A graded score can change a little on every item, so the floor of right and wrong answers does
    not hold. Losses can also be rare and whole, and then a sample without them has a small error
    and proves too much. So Tango's variance is taken of items that change by L or not at all, as
    many as the mean and the mean square of the changes ask for: in units of L, the shares
    (mean square - mean) / 2 lost and (mean square + mean) / 2 gained. L is `whole_loss` under a
    loss and `whole_gain` under a gain. What this variance has more than without the hypothesis is
    added to the squared cluster-robust error, over effective n. Where no item changed and scores
    are 0 and 1, the result is that of `null_error`.
    """
    whole = moments.whole_loss if difference < 0 else moments.whole_gain
    square, mean_change = moments.change_square / whole**2, seen / whole
    lost, gained = max(0.0, (square - mean_change) / 2), max(0.0, (square + mean_change) / 2)
    supposed = max(-1.0, min(1.0, difference / whole))
    plain = lost + gained - (gained - lost) ** 2
    more = max(0.0, _supposed_variance(lost, gained, supposed) - plain) * whole**2
    return math.sqrt(mean.standard_error**2 + more / mean.effective_n)


@dataclass(frozen=True)
class Seen:
    """What is known of a change: its mean, and what its error under a hypothesis follows from."""

    mean: ClusteredMean
    difference: float
    lost: float  # share of the items
    gained: float
    moments: GradedMoments | None  # of graded scores; None for right and wrong answers

    def error(self, true: float) -> float:
        """Standard error under the hypothesis that the true change is `true`."""
        if self.moments:
            return graded_null_error(self.mean, self.moments, self.difference, true)
        return null_error(self.mean, self.lost, self.gained, true)

    def t_value(self, true: float) -> float:
        """How many of its errors the mean change lies above the change `true`."""
        error, estimate = self.error(true), self.difference - true
        if error == 0:
            return math.copysign(math.inf, estimate) if estimate else 0.0
        return estimate / error

    def mirrored(self) -> "Seen":
        """The same change seen from the later model to the earlier one."""
        moments = self.moments.mirrored() if self.moments else None
        return Seen(self.mean, -self.difference, self.gained, self.lost, moments)


def p_above(seen: Seen, bound: float) -> float:
    """One-sided p-value against "the true change is at most `bound`".

    It is the largest over the changes up to `bound` (HYPOTHESES and `bound` itself), because the
    error of a smaller change may be larger.
    """
    below = [true for true in HYPOTHESES if true < bound]
    least = min(seen.t_value(true) for true in (*below, bound))
    return float(stdtr(seen.mean.degrees_of_freedom, -least))


def whole_items_p(seen: Seen) -> float:
    """One-sided p-value of graded scores against "not better", which allows for rare whole losses.

    It does for graded scores what `exact_p` does for right and wrong answers. Small gains on most
    items may be balanced by a few whole losses, and a sample without those varies too little. If
    a share s of the items lost everything and the others changed as seen, no change has
    s = mean change / mean score after, and s (mean(before^2) - mean(change^2)) + mean change^2 is
    what the variance of one item gains. The result is 0 for right and wrong answers.
    """
    moments, mean = seen.moments, seen.mean
    if not moments or moments.after == 0:
        return 0.0
    share = max(0.0, seen.difference) / moments.after
    more = share * (moments.before_square - moments.change_square) + seen.difference**2
    error = math.sqrt(mean.standard_error**2 + max(0.0, more) / mean.effective_n)
    return float(stdtr(mean.degrees_of_freedom, -seen.difference / error)) if error else 0.0


def difference_interval(seen: Seen, significance: float) -> Interval:
    """The true changes from the lowest to the highest that no test at `significance` rejects.

    See `p_above`.
    """
    quantile = float(stdtrit(seen.mean.degrees_of_freedom, 1 - significance))

    def low(seen: Seen) -> float:
        def excess(true: float) -> float:
            return seen.difference - true - quantile * seen.error(true)

        rejected = -1.0
        for true in (*(true for true in HYPOTHESES if true < seen.difference), seen.difference):
            if excess(true) < 0:
                return true if true == -1 else float(brentq(excess, rejected, true))
            rejected = true
        return seen.difference

    return low(seen), -low(seen.mirrored())
