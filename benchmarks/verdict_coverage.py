"""How often intervals that are called 90 % hold the truth: rows of benchmarks/verdict.py."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.special import ndtri

from benchmarks.verdict_batches import Batch, batch_of
from benchmarks.verdict_known_truth import Design, draw_clusters, draw_fates, draw_pair
from lmadapt.verdict.ratio_interval import clustered_ratio
from lmadapt.verdict.statistics import (
    Array,
    accuracy_interval,
    paired_change,
    wilson_interval,
)

SIGNIFICANCE = 0.05  # the default of evaluate.significance: intervals of 90 %
RESAMPLES = 500  # of the bootstrap, which some intervals are compared with
RESAMPLED = 500  # intervals that the bootstrap also computes
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What a row needs besides its design: a random generator of its own, and how often to draw."""

    draw: Generator
    repetitions: int


def without_changes(design: Design) -> Row:
    """The design, without what happens to the items."""
    return {name: value for name, value in asdict(design).items() if name not in ("lost", "gained")}


def change_coverage(run: Run, design: Design) -> Row:
    """How often intervals of a change hold the truth: ours, and for independent items."""
    clusters = draw_clusters(design, run.draw)
    pairs = [draw_pair(design, clusters, run.draw) for _ in range(run.repetitions)]
    before, after = (np.array(scores, float) for scores in zip(*pairs, strict=True))
    batch = batch_of(before, after, np.bincount(clusters), graded=design.graded)
    require_agreement(batch, before, after, clusters)
    half = float(ndtri(1 - SIGNIFICANCE)) * (after - before).std(axis=1) / np.sqrt(design.items)
    naive = np.abs(batch.difference - design.change) <= half
    return {
        "kind": "coverage of a change",
        **asdict(design),
        "clusters": len(batch.sizes),
        "coverage": float(np.mean(covered(batch, design.change))),
        "naive": float(np.mean(naive)),
    }


def covered(batch: Batch, truth: float) -> Array:
    """Whether each interval holds the true change: no test rejects it."""
    above = batch.p_above(truth) <= SIGNIFICANCE
    below = batch.mirrored().p_above(-truth) <= SIGNIFICANCE
    # An interval holds 0 unless the exact test agrees that the change is not 0.
    above &= (truth < 0) | (batch.better_p() <= SIGNIFICANCE)
    below &= (truth > 0) | (batch.worse_p() <= SIGNIFICANCE)
    return ~(above | below)


def require_agreement(batch: Batch, before: Array, after: Array, clusters: Array) -> None:
    """Stop unless the batch's p-values are those of `paired_change`, for its first rows."""
    better, worse = batch.better_p(), batch.worse_p()
    for row in range(min(2, len(before))):
        one = paired_change(before[row], after[row], clusters, SIGNIFICANCE, graded=batch.graded)
        np.testing.assert_allclose(
            (better[row], worse[row]), (one.better_p, one.worse_p), rtol=1e-6, atol=1e-12
        )


def accuracy_coverage(run: Run, design: Design, accuracy: float) -> Row:
    """How often intervals of an accuracy hold the truth: ours, and for independent items."""
    ours = naive = 0
    clusters, z = draw_clusters(design, run.draw), float(ndtri(1 - SIGNIFICANCE))
    for _ in range(run.repetitions):
        fates = draw_fates((accuracy, 1 - accuracy), clusters, design.correlation, run.draw)
        scores = 1.0 - fates
        low, high = accuracy_interval(scores, clusters, SIGNIFICANCE)
        ours += low <= accuracy <= high
        low, high = wilson_interval(scores.sum(), len(scores), z)
        naive += low <= accuracy <= high
    found = {"coverage": ours / run.repetitions, "naive": naive / run.repetitions}
    return {
        "kind": "coverage of an accuracy",
        **without_changes(replace(design, graded=False)),
        "accuracy": accuracy,
        **found,
    }


@dataclass(frozen=True)
class Texts:
    """Held-out documents and how their bits per byte vary."""

    documents: int
    giant: float = 0.0  # share of the bytes in one document; the others are within a factor of 3
    rates: str = "normal"  # normal | skewed (gamma of skewness 1) | by byte (less in long ones)


def text_coverage(run: Run, texts: Texts) -> Row:
    """How often intervals of bits per byte hold the truth: ours, and the percentile bootstrap.

    A change of bits per byte is a ratio of the same kind, so these rows are for both.
    """
    hits, resampled, value = 0, 0, 0.9
    names = np.arange(texts.documents)
    for repetition in range(run.repetitions):
        sizes = run.draw.uniform(500, 1500, texts.documents)
        if texts.giant:
            sizes[0] = sizes[1:].sum() * texts.giant / (1 - texts.giant)
        bits = sizes * (value + 0.15 * _deviations(texts, sizes, run.draw))
        low, high = clustered_ratio(bits, sizes, names).interval(SIGNIFICANCE)
        hits += low <= value <= high
        if repetition < RESAMPLED:
            low, high = bootstrap_interval(bits, sizes, run.draw)
            resampled += low <= value <= high
    return {
        "kind": "coverage of bits per byte",
        **asdict(texts),
        "coverage": hits / run.repetitions,
        "bootstrap": resampled / min(run.repetitions, RESAMPLED),
    }


def _deviations(texts: Texts, sizes: Array, draw: Generator) -> Array:
    """How far each document's rate is from the mean, in standard deviations."""
    if texts.rates == "skewed":
        return np.asarray((draw.gamma(4, size=len(sizes)) - 4) / 2)
    scale = np.sqrt(sizes.mean() / sizes) if texts.rates == "by byte" else 1.0
    return np.asarray(draw.normal(size=len(sizes)) * scale)


def bootstrap_interval(numerators: Array, sizes: Array, draw: Generator) -> tuple[float, float]:
    """Percentile interval of a ratio (Davison & Hinkley 1997), resampling documents."""
    n = len(sizes)
    times = draw.multinomial(n, np.full(n, 1 / n), RESAMPLES)
    low, high = np.quantile(
        (times @ numerators) / (times @ sizes), [SIGNIFICANCE, 1 - SIGNIFICANCE]
    )
    return float(low), float(high)
