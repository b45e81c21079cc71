"""The verdict's tests of many drawn evaluations at once.

The same formulas as lmadapt.verdict.statistics, on arrays with one row an evaluation;
benchmarks/verdict.py compares some rows of every batch with `paired_change` itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import bdtr, stdtr

from lmadapt.verdict.clustered_mean import satterthwaite_freedom
from lmadapt.verdict.hypotheses import HYPOTHESES
from lmadapt.verdict.statistics import Array


@dataclass(frozen=True)
class Batch:
    """Changes of scores in many evaluations with the same clusters."""

    sizes: Array  # (g,) items of each cluster
    sums: Array  # (r, g) of the changes of each cluster
    moments: Array  # (r, 5) sums of before, after, before^2, after^2, change^2
    lost: Array  # (r,) number of items
    gained: Array
    graded: bool

    @property
    def n(self) -> int:
        """Items of one evaluation."""
        return int(self.sizes.sum())

    @property
    def difference(self) -> Array:
        """Mean change, (r,)."""
        return np.asarray(self.sums.sum(axis=1) / self.n)

    @property
    def freedom(self) -> float:
        """Degrees of freedom."""
        return satterthwaite_freedom(self.sizes / self.n)

    def mirrored(self) -> "Batch":
        """The changes from the later model to the earlier one."""
        turned = self.moments[:, [1, 0, 3, 2, 4]]
        return replace(self, sums=-self.sums, moments=turned, lost=self.gained, gained=self.lost)

    def p_above(self, bound: float | Array) -> Array:
        """`statistics.p_above` of each evaluation; `bound` is one number, or one a row."""
        error = _Errors(self)
        bounds = np.broadcast_to(bound, self.lost.shape)
        least = error.t_values(bounds)
        for true in HYPOTHESES:
            below = true < bounds
            if below.any():
                values = error.t_values(np.full(len(bounds), true))
                least = np.where(below, np.minimum(least, values), least)
        return np.asarray(stdtr(self.freedom, -least))

    def better_p(self) -> Array:
        """`PairedChange.better_p` of each evaluation."""
        p = self.p_above(0.0)
        if self.graded:
            return np.maximum(p, _Errors(self).whole_items_p())
        return np.maximum(p, bdtr(self.lost, (self.lost + self.gained).astype(int), 0.5))

    def worse_p(self) -> Array:
        """`PairedChange.worse_p` of each evaluation."""
        return self.mirrored().better_p()


def batch_of(before: Array, after: Array, sizes: Array, *, graded: bool) -> Batch:
    """The batch of scores, (r, n), whose clusters of `sizes` follow each other."""
    changes = after - before
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Batch(
        sizes=sizes,
        sums=np.add.reduceat(changes, starts, axis=1),
        moments=np.stack(
            [before.sum(1), after.sum(1), *(np.sum(x**2, 1) for x in (before, after, changes))], 1
        ),
        lost=np.sum(changes < 0, axis=1),
        gained=np.sum(changes > 0, axis=1),
        graded=graded,
    )


def stacked(batches: Sequence[Batch]) -> Batch:
    """More evaluations of the same clusters, one batch after the other."""
    rows = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("sums", "moments", "lost", "gained")
    }
    return replace(batches[0], **rows)


def joined(batches: Sequence[Batch]) -> Batch:
    """The same evaluations, with the items of all batches as one; no two share a cluster."""
    return Batch(
        sizes=np.concatenate([batch.sizes for batch in batches]),
        sums=np.concatenate([batch.sums for batch in batches], axis=1),
        moments=np.sum([batch.moments for batch in batches], axis=0),
        lost=np.sum([batch.lost for batch in batches], axis=0),
        gained=np.sum([batch.gained for batch in batches], axis=0),
        graded=batches[0].graded,
    )


class _Errors:
    """Standard errors of a batch under hypotheses."""

    def __init__(self, batch: Batch) -> None:
        self.batch, n = batch, batch.n
        self.seen = batch.difference
        shares = batch.sizes / n
        deviations = batch.sums - self.seen[:, None] * batch.sizes
        between = np.sum(deviations**2 / (1 - shares), axis=1)
        self.square = between / n**2
        self.before, self.after, self.before2, self.after2, self.change2 = batch.moments.T / n
        self.whole_loss = _ratio(self.before2, self.before)
        self.whole_gain = _ratio(self.after2, self.after)
        whole = np.maximum(self.whole_loss, self.whole_gain) if batch.graded else 1.0
        within = n * (self.change2 - self.seen**2)
        size, squared = n * float(np.sum(shares**2)), np.square(whole)
        design_effect = (between + squared * size**2) / (within + squared * size)
        self.effective_n = n / np.maximum(1.0, design_effect)

    def t_values(self, true: Array) -> Array:
        """How many errors the mean change lies above each row's true change."""
        error = np.sqrt(self._graded(true) if self.batch.graded else self._right(true))
        estimate = self.seen - true
        infinite = np.where(estimate == 0, 0.0, np.copysign(np.inf, estimate))
        return np.where(error > 0, estimate / np.where(error > 0, error, 1.0), infinite)

    def whole_items_p(self) -> Array:
        """`statistics.whole_items_p` of each evaluation."""
        share = np.maximum(0.0, self.seen) / np.where(self.after > 0, self.after, np.inf)
        more = share * (self.before2 - self.change2) + self.seen**2
        error = np.sqrt(self.square + np.maximum(0.0, more) / self.effective_n)
        t = self.seen / np.where(error > 0, error, 1.0)
        p = np.where(error > 0, stdtr(self.batch.freedom, -t), 0.0)
        return np.where(self.after > 0, p, 0.0)

    def _right(self, true: Array) -> Array:
        """`null_error`, squared."""
        shares = np.stack([self.batch.lost, self.batch.gained]) / self.batch.n
        lost, gained = shares
        size, plain = np.abs(true), lost + gained - (gained - lost) ** 2
        variance = _supposed_variance(lost, gained, true)
        ratio = np.where(plain > 0, np.maximum(1.0, variance / np.where(plain > 0, plain, 1.0)), 1)
        return np.maximum(self.square * ratio, size * (1 - size) / self.effective_n)

    def _graded(self, true: Array) -> Array:
        """`graded_null_error`, squared."""
        whole = np.where(true < 0, self.whole_loss, self.whole_gain)
        square, change = self.change2 / whole**2, self.seen / whole
        lost, gained = (np.maximum(0.0, (square + sign * change) / 2) for sign in (-1, 1))
        supposed = np.clip(true / whole, -1, 1)
        plain = lost + gained - (gained - lost) ** 2
        more = np.maximum(0.0, _supposed_variance(lost, gained, supposed) - plain)
        return np.asarray(self.square + more * whole**2 / self.effective_n)


def _supposed_variance(lost: Array, gained: Array, true: Array) -> Array:
    lost, gained = np.where(true < 0, (gained, lost), (lost, gained))
    size = np.abs(true)
    slope = lost * (1 - size) + gained * (1 + size) - 2 * size
    least = size * (1 - size)
    return (slope + np.sqrt(np.maximum(0.0, slope**2 + 8 * lost * least))) / 2 + least


def _ratio(top: Array, bottom: Array) -> Array:
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), 1.0)
