"""Intervals of ratios over documents of unequal size, such as bits per byte."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from lmadapt.core.errors import UserError
from lmadapt.verdict.clustered_mean import Array, Interval, satterthwaite_freedom


@dataclass(frozen=True)
class ClusteredRatio:
    """sum(numerators) / sum(denominators), and how precise it is."""

    value: float
    standard_error: float  # cluster-robust
    degrees_of_freedom: float  # of Student's t for that error
    clusters: int

    def interval(self, significance: float) -> Interval:
        """Student's interval, of confidence 1 - 2 * `significance`."""
        quantile = float(stdtrit(self.degrees_of_freedom, 1 - significance))
        half = quantile * self.standard_error
        return self.value - half, self.value + half


def clustered_ratio(numerators: Array, denominators: Array, clusters: Array) -> ClusteredRatio:
    """sum(numerators) / sum(denominators), when values of one cluster are correlated.

    All arrays are (n,). Raises UserError for fewer than two clusters.

    The ratio is the mean of the clusters' own ratios r_g, weighted by their shares h_g of the
    denominators. Its squared error is sum_g h_g^2 e_g^2 / a_g, with e_g = r_g - ratio: CR2 (Bell &
    McCaffrey 2002), whose a_g = 1 - 2 h_g + sum h^2 makes it unbiased where all r_g vary equally.
    Documents do, nearly. CR2 of a mean has a_g = 1 - h_g, for bytes that vary one by one; a
    document with 56 % of the bytes then seems to vary half as much as it does. The degrees of
    freedom are Satterthwaite's for bytes: those for documents that vary equally are so few where
    one document has most bytes that the interval always covers (benchmarks/verdict.py).
    """
    groups, codes = np.unique(clusters, return_inverse=True)
    if len(groups) < 2:
        raise UserError(
            f"all {len(clusters)} texts belong to one cluster, {str(groups[0])!r}; at least two "
            "clusters are needed to estimate a variance"
        )
    sizes = np.bincount(codes, weights=denominators)
    shares = sizes / sizes.sum()
    factors = shares**2 / (1 - 2 * shares + np.sum(shares**2))
    rates = np.bincount(codes, weights=numerators) / sizes
    value = float(shares @ rates)
    error = float(np.sqrt(factors @ (rates - value) ** 2))
    return ClusteredRatio(value, error, satterthwaite_freedom(shares), len(groups))
