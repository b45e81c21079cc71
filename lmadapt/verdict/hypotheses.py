"""Tests and intervals of a change, as one rule: an interval holds what no test rejects."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

Interval = tuple[float, float]

# True changes that are tried, closer to each other near 0.
HYPOTHESES = tuple(step * abs(step) / 32**2 for step in range(-32, 33))


@dataclass(frozen=True)
class Known:
    """A mean change, and its error under the hypothesis that the true change is another."""

    seen: float
    error: Callable[[float], float]  # see `null_error`
    degrees_of_freedom: float

    def mirrored(self) -> "Known":
        """The same with gains for losses."""
        return Known(-self.seen, lambda true: self.error(-true), self.degrees_of_freedom)


def p_above(change: Known, bound: float) -> float:
    """One-sided p-value against "the true change is at most `bound`".

    The value is the largest over the changes up to `bound` (HYPOTHESES and `bound` itself), because
    the error under a smaller change may be larger.
    """
    below = [true for true in HYPOTHESES if true < bound]
    least = min(_t_value(change, true) for true in (*below, bound))
    return float(stdtr(change.degrees_of_freedom, -least))


def difference_interval(change: Known, significance: float) -> Interval:
    """The true differences from the lowest to the highest that no test at `significance` rejects.

    See `p_above`.
    """
    quantile = float(stdtrit(change.degrees_of_freedom, 1 - significance))

    def low(change: Known) -> float:
        def excess(true: float) -> float:
            return change.seen - true - quantile * change.error(true)

        rejected = -1.0
        for true in (*(true for true in HYPOTHESES if true < change.seen), change.seen):
            if excess(true) < 0:
                return true if true == -1 else float(brentq(excess, rejected, true))
            rejected = true
        return change.seen

    return low(change), -low(change.mirrored())


def _t_value(change: Known, true: float) -> float:
    """How many of its errors the mean change lies above the change `true`."""
    error, estimate = change.error(true), change.seen - true
    if error == 0:
        return math.copysign(math.inf, estimate) if estimate else 0.0
    return estimate / error
