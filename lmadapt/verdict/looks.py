"""Levels for an exam that is looked at more than once.

Three things use an exam up: several models that are judged on it side by side, looks at the same
model while items are added, and looks at times that nobody planned. The first two divide the level;
the third needs another kind of test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp, ndtr, ndtri, roots_legendre

Array = NDArray[Any]
Looks = int | Literal["any"]

NODES = 200  # of the integral over one look; 100 give the published boundaries to 4 digits
TAIL = 9.0  # standard deviations beyond which the normal density counts as zero
BETS = 64  # constant bets that the capital is spread over


def verdict_level(
    significance: float, *, candidates: int, looks: Looks, items: int, planned_items: int | None
) -> float:
    """The one-sided level of each test of a verdict.

    `significance` is divided by the number of `candidates` that one exam judges side by side
    (Bonferroni). With planned looks, the level is then that of the look at which `items` of
    `planned_items` are there. With one look, or with looks at any time, nothing more changes.
    """
    level = significance / candidates
    if not isinstance(looks, int) or looks == 1 or planned_items is None:
        return level
    return planned_level(level, looks=looks, items=items, planned_items=planned_items)


def planned_level(significance: float, *, looks: int, items: int, planned_items: int) -> float:
    """The one-sided level at one of several planned looks, which `items` tells.

    The plan has `looks` looks, at equal steps of `planned_items` items; one look is taken in each
    step. The last look spends what is left, also when there are more items than planned.
    """
    share = min(1.0, items / planned_items)
    steps = [step / looks for step in range(1, looks) if step / looks < share - 1e-9]
    information = [*(step * planned_items for step in steps), items]
    spent = [obrien_fleming_spending(share, significance) for share in (*steps, share)]
    return float(ndtr(-boundaries(information, spent)[-1]))


def obrien_fleming_spending(share: float, significance: float) -> float:
    """How much of the level may be spent when this share of the information is there.

    2 - 2 Phi(z / sqrt(share)) with z the normal quantile of 1 - significance / 2: the spending
    function of Lan & DeMets 1983 that resembles the boundaries of O'Brien & Fleming 1979.
    """
    return 2 * float(ndtr(ndtri(significance / 2) / math.sqrt(share)))


def boundaries(information: Sequence[float], spent: Sequence[float]) -> Array:
    """Normal quantiles that a statistic must reach at each look, (looks,).

    information: amounts of information, rising; spent: the level spent up to each look. The sum of
    the data is Brownian motion in the information; its density among paths that were not stopped is
    integrated look by look (Armitage, McPherson & Rowe 1969), by Gauss-Legendre quadrature.
    """
    times = np.asarray(information, float) / information[-1]
    found = [float(-ndtri(max(spent[0], 1e-300)))]
    points, weights = _nodes(found[0], times[0])
    density = weights * np.exp(-(points**2) / (2 * times[0])) / math.sqrt(2 * math.pi * times[0])
    for look in range(1, len(times)):
        step, target = math.sqrt(times[look] - times[look - 1]), spent[look] - spent[look - 1]

        def excess(
            z: float,
            at: float = math.sqrt(times[look]),
            step: float = step,
            target: float = target,
        ) -> float:
            return float(density @ ndtr((points - z * at) / step)) - target  # noqa: B023

        found.append(float(brentq(excess, -TAIL, 40.0)) if excess(40.0) < 0 else 40.0)
        new, weights = _nodes(found[-1], times[look])
        moves = (new[:, None] - points[None, :]) / step
        density = weights * (np.exp(-(moves**2) / 2) @ density) / (step * math.sqrt(2 * math.pi))
        points = new
    return np.array(found)


def _nodes(z: float, time: float) -> tuple[Array, Array]:
    """Points and weights to integrate over paths that stay below the boundary z at a time."""
    low, high = -TAIL * math.sqrt(time), min(z, TAIL) * math.sqrt(time)
    points, weights = roots_legendre(NODES)
    half = (high - low) / 2
    return low + half * (points + 1), weights * half


@dataclass(frozen=True)
class Betting:
    """Bets on the mean of paired differences, valid however often and whenever one looks.

    Whoever bets against "the mean is at most b" multiplies the capital by 1 + bet * (sum over a
    cluster of (difference - b)), which grows on average only if the mean is larger. So the capital
    reaches 1 / p with a probability of at most p (Ville 1939; Waudby-Smith & Ramdas 2024). The
    capital is spread over constant bets, so that the order of clusters does not matter and new ones
    continue the game. Bets are small enough for the largest cluster; its size is rounded up to a
    power of two, so that it seldom changes when items are added.
    """

    sums: Array  # of the differences in each cluster, (clusters,)
    counts: Array  # of the items in each cluster, (clusters,)

    def p_above(self, bound: float) -> float:
        """One-sided p-value against "the mean is at most `bound`"; -1 < bound < 1."""
        return math.exp(min(0.0, -self._log_capital(bound)))

    def p_below(self, bound: float) -> float:
        """One-sided p-value against "the mean is at least `bound`"."""
        return Betting(-self.sums, self.counts).p_above(-bound)

    def interval(self, significance: float) -> tuple[float, float]:
        """The means that no test at the level rejects; it holds at all looks together."""
        return self._low(significance), -Betting(-self.sums, self.counts)._low(significance)

    def _low(self, significance: float) -> float:
        needed, mean = -math.log(significance), float(self.sums.sum() / self.counts.sum())

        def excess(bound: float) -> float:
            return self._log_capital(bound) - needed

        lowest = -1 + 1e-6
        if mean <= lowest or excess(lowest) < 0:
            return -1.0
        return float(brentq(excess, lowest, min(mean, 1 - 1e-6)))

    def _log_capital(self, bound: float) -> float:
        largest = 2 ** math.ceil(math.log2(self.counts.max()))
        bets = (np.arange(1, BETS + 1) / (BETS + 1)) ** 2 / (largest * (1 + bound))
        gains = self.sums - bound * self.counts
        return float(logsumexp(np.log1p(np.outer(bets, gains)).sum(axis=1)) - math.log(BETS))


def bet_on(differences: Array, clusters: Array) -> Betting:
    """The game on paired differences from -1 to 1; both arrays are (n,)."""
    codes = np.unique(clusters, return_inverse=True)[1]
    return Betting(np.bincount(codes, weights=differences), np.bincount(codes))
