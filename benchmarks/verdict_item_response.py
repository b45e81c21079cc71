"""Evaluations with a known truth, from a logistic item-response model with entity effects.

An item has four choices; the right one has the ability of the model less the difficulty of the
item, and every choice has noise of logistic shape. The later model has the same noise, of some
items drawn anew and of the others shaken, and an ability that is shifted for each entity; or it
forgets or learns whole items, by entity. Items are drawn from a pool, so the true means are those
of the pool.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from scipy.optimize import brentq
from scipy.special import expit, ndtri

from benchmarks.verdict_batches import Batch, batch_of, stacked
from lmadapt.verdict.graded_scores import fit_temperature
from lmadapt.verdict.statistics import Array

CHOICES, CHANCE = 4, 0.25
POOL = 8000  # items
STEP, STEPS = 0.25, 24  # of shifts of ability: -6 to 6
ABILITIES = {"floor": 0.6, "middle": 2.4, "ceiling": 7.0}  # accuracy about 0.35, 0.63, 0.97
AT_ONCE = 600_000  # items drawn in one batch
REDRAWN, SHAKEN = 3.4, 2.5
SHIFT_SPREAD = 1.0  # of abilities between entities whose changes are perfectly correlated
LEARNT = 9.0  # ability on an item that was learnt as a whole
GAINED_SHARE = 0.03


@dataclass(frozen=True)
class Design:
    """A set of items, and how the later model differs on them."""

    items: int
    clusters: str = "alone"  # alone | pairs | four (geometric) | few (12) | giant (half the items)
    correlation: float = 0.0  # of changes within an entity, on the logistic scale
    level: str = "middle"
    churn: float = 0.05  # right and wrong answers lost, and as many gained, at the middle level
    # whole: items are forgotten; shift: of ability; gain: some are learnt, and ability shifts.
    harm: str = "whole"


@dataclass(frozen=True)
class Pool:
    """Items, and both models' scores on them: graded (0) and right or wrong (1)."""

    before: Array  # (2, items)
    after: Array  # (2, shifts, items)
    forgotten: Array  # (2, items)
    learnt: Array  # (2, items)

    @property
    def knowledge(self) -> Array:
        """Mean score of the reference beyond guessing, (2,)."""
        return np.asarray(self.before.mean(axis=1) - CHANCE)


@cache
def pool(level: str, churn: float) -> Pool:
    """The pool of one ability; the graded score has the temperature fitted on the reference.

    Without a loss, the later model answers a share REDRAWN * `churn` of the items anew, and its
    noise is SHAKEN * `churn` apart on the others. Then the same certainty takes 0.47 times as many
    items by graded scores as by right and wrong answers, as on the demo's real answers.
    """
    draw = np.random.default_rng([7, int(100 * ABILITIES[level]), int(1000 * churn)])
    noise = draw.logistic(size=(POOL, CHOICES))
    skill = ABILITIES[level] + 1.5 * draw.normal(size=POOL)
    temperature = _temperature(_with_skill(noise, skill))

    def scores(noise: Array, skill: Array) -> Array:
        utilities = _with_skill(noise, skill)
        raised = np.exp((utilities - utilities.max(axis=1, keepdims=True)) / temperature)
        return np.stack([raised[:, 0] / raised.sum(axis=1), raised[:, 0] == raised.max(axis=1)])

    anew = draw.random(POOL) < REDRAWN * churn
    moved = draw.logistic(size=noise.shape)
    shaken = np.where(anew[:, None], moved, noise + SHAKEN * churn * moved)
    shifts = STEP * (np.arange(2 * STEPS + 1) - STEPS)
    fresh = draw.logistic(size=noise.shape)
    return Pool(
        before=scores(noise, skill),
        after=np.stack([scores(shaken, skill + shift) for shift in shifts], axis=1),
        forgotten=scores(fresh, np.zeros(POOL)),
        learnt=scores(fresh, np.full(POOL, LEARNT)),
    )


def _with_skill(noise: Array, skill: Array) -> Array:
    return noise + skill[:, None] * (np.arange(CHOICES) == 0)


def _temperature(utilities: Array) -> float:
    some = utilities[:2000]
    return fit_temperature(some.tolist(), np.ones(some.shape, int).tolist(), [0] * len(some))


@dataclass(frozen=True)
class Truth:
    """The later model: shift of ability, and the logit of the share of whole items that changed."""

    shift: float
    whole: float  # -inf where no item is forgotten or learnt


def truth_of(design: Design, score: int, change: float) -> Truth:
    """The later model whose mean score (0: graded, 1: right and wrong) truly changes by `change`.

    Raises ValueError where the design cannot change so much.
    """
    found = pool(design.level, design.churn)
    means, before = found.after[score].mean(axis=1), found.before[score].mean()
    spread = ndtri((np.arange(801) + 0.5) / 801)

    def shifted(shift: float) -> float:
        places = (shift + _shift_spread(design) * spread) / STEP + STEPS
        return float(np.interp(places, np.arange(len(means)), means).mean())

    def shift_to(mean: float) -> float:
        edge = STEP * (STEPS - 1)
        return float(brentq(lambda shift: shifted(shift) - mean, -edge, edge))

    if design.harm == "shift":
        return Truth(shift_to(before + change), -np.inf)
    if design.harm == "gain":
        learnt = found.learnt[score].mean()
        rest = (before + change - GAINED_SHARE * learnt) / (1 - GAINED_SHARE)
        return Truth(shift_to(rest), _logit_of(design, GAINED_SHARE, spread))
    stays = shift_to(before)  # shaking alone changes the mean, which a shift restores
    share = -change / (before - found.forgotten[score].mean())
    return Truth(stays, _logit_of(design, share, spread) if share > 0 else -np.inf)


def _shift_spread(design: Design) -> float:
    return float(SHIFT_SPREAD * np.sqrt(design.correlation))


def _whole_spread(design: Design) -> float:
    variance = np.pi**2 / 3 * design.correlation / (1 - design.correlation)
    return float(np.sqrt(variance))


def _logit_of(design: Design, share: float, spread: Array) -> float:
    """The logit whose mean share over entities is `share`."""
    effects = _whole_spread(design) * spread

    def excess(logit: float) -> float:
        return float(expit(logit + effects).mean()) - share

    return float(brentq(excess, -30, 30))


def cluster_sizes(design: Design, draw: Generator) -> Array:
    """The number of items of each cluster."""
    n = design.items
    if design.clusters == "alone":
        return np.ones(n, int)
    if design.clusters == "few":
        return np.bincount(np.arange(n) % 12)
    if design.clusters == "pairs":
        return np.bincount(np.arange(n) // 2)
    giant = n // 2 if design.clusters == "giant" else 0
    ends = np.minimum(np.cumsum(draw.geometric(1 / 4, n)), n - giant)
    sizes = np.diff(np.unique(np.concatenate([[0], ends])))
    return np.concatenate([[giant], sizes]) if giant else sizes


def draw_batches(
    design: Design, truth: Truth, draw: Generator, repetitions: int
) -> tuple[Batch, Batch]:
    """Both scores of the same evaluations: graded, and right and wrong."""
    sizes = cluster_sizes(design, draw)
    graded, right = [], []
    for before, after in _draws(design, truth, draw, sizes, repetitions):
        graded.append(batch_of(before[0], after[0], sizes, graded=True))
        right.append(batch_of(before[1], after[1], sizes, graded=False))
    return stacked(graded), stacked(right)


def first_pairs(design: Design, truth: Truth, draw: Generator) -> tuple[Array, Array, Array]:
    """The scores before and after, (2, n), of one evaluation, and the cluster of each item."""
    sizes = cluster_sizes(design, draw)
    ((before, after),) = _draws(design, truth, draw, sizes, 1)
    return before[:, 0], after[:, 0], np.repeat(np.arange(len(sizes)), sizes)


def _draws(
    design: Design, truth: Truth, draw: Generator, sizes: Array, repetitions: int
) -> Iterator[tuple[Array, Array]]:
    """Scores before and after, (2, r, n) each: graded, and right and wrong; r rows at a time."""
    found = pool(design.level, design.churn)
    codes, n = np.repeat(np.arange(len(sizes)), sizes), design.items
    at_once = max(1, AT_ONCE // n)
    for start in range(0, repetitions, at_once):
        rows = min(at_once, repetitions - start)
        items = draw.integers(POOL, size=(rows, n))
        effects = draw.normal(size=(2, rows, len(sizes)))
        levels = _levels(truth.shift + _shift_spread(design) * effects[0], draw)[:, codes]
        whole = np.zeros((rows, n), bool)
        if truth.whole > -np.inf:
            shares = expit(truth.whole + _whole_spread(design) * effects[1])[:, codes]
            whole = draw.random((rows, n)) < shares
        changed = found.learnt if design.harm == "gain" else found.forgotten
        after = np.where(whole, changed[:, items], found.after[:, levels, items])
        yield found.before[:, items], after


def _levels(shifts: Array, draw: Generator) -> Array:
    """The place of each shift in the pool, rounded at random so that its mean is exact."""
    places = np.clip(shifts / STEP + STEPS, 0, 2 * STEPS - 1e-6)
    return np.asarray((places + draw.random(places.shape)).astype(int)).clip(0, 2 * STEPS)
