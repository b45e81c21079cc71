"""Evaluations with a known truth: items, their clusters, and what two models score on them.

Cluster sizes are geometric, so clusters are unequal. Within a cluster, the shares of items lost and
gained come from a Dirichlet distribution, so that any two items of a cluster change with the stated
correlation.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from lmadapt.verdict.decision import Scored
from lmadapt.verdict.statistics import Array


@dataclass(frozen=True)
class Design:
    """A set of items and what truly happens to them; shares of 1."""

    items: int
    cluster_size: int = 1  # mean
    correlation: float = 0.0  # of the changes of any two items of a cluster
    lost: float = 0.05
    gained: float = 0.05
    graded: bool = False  # scores change by any amount up to 1, as free answers do

    @property
    def change(self) -> float:
        """The true change of the mean score."""
        return (self.gained - self.lost) * (0.5 if self.graded else 1.0)

    @property
    def design_effect(self) -> float:
        """The factor by which clusters of geometric size inflate the variance."""
        return 1 + 2 * self.correlation * (self.cluster_size - 1)


def draw_clusters(design: Design, draw: Generator) -> Array:
    """The cluster of each item."""
    sizes = draw.geometric(1 / design.cluster_size, design.items)
    return np.repeat(np.arange(design.items), sizes)[: design.items]


def draw_fates(
    shares: tuple[float, ...], clusters: Array, correlation: float, draw: Generator
) -> Array:
    """The fate of each item, as an index into `shares`, the mean share of each fate."""
    edges = np.broadcast_to(np.cumsum(shares)[:-1], (len(clusters), len(shares) - 1))
    if correlation > 0:
        concentration = np.array(shares) * (1 - correlation) / correlation
        gammas = draw.gamma(np.maximum(concentration, 1e-9), size=(clusters[-1] + 1, len(shares)))
        edges = (np.cumsum(gammas, axis=1) / gammas.sum(axis=1, keepdims=True))[clusters, :-1]
    return np.sum(draw.random(len(clusters))[:, None] >= edges, axis=1)


def draw_pair(design: Design, clusters: Array, draw: Generator) -> tuple[Array, Array]:
    """Scores before and after; an item that is neither lost nor gained stays right or wrong."""
    size = draw.random(len(clusters)) if design.graded else 1.0
    rest = 1 - design.lost - design.gained
    fates = draw_fates((design.lost, design.gained, rest), clusters, design.correlation, draw)
    unchanged = (draw.random(len(clusters)) < 0.6) & (fates == 2)
    return np.where(fates == 0, size, unchanged), np.where(fates == 1, size, unchanged)


def draw_evaluation(
    domain: Design, categories: list[Design], draw: Generator
) -> tuple[Scored, Scored]:
    """Two models' scores on a domain and on categories of general items; no two share a cluster."""
    designs = [domain, *categories]
    clusters = [draw_clusters(design, draw) for design in designs]
    scores = [
        draw_pair(design, inside, draw) for design, inside in zip(designs, clusters, strict=True)
    ]
    part = np.repeat(np.arange(len(designs)), [design.items for design in designs])
    before = Scored(
        ids=np.arange(len(part)),
        groups=np.where(part == 0, "domain", "general"),
        categories=part,
        clusters=part * 10**6 + np.concatenate(clusters),
        scores=np.concatenate([pair[0] for pair in scores]),
    )
    return before, replace(before, scores=np.concatenate([pair[1] for pair in scores]))
