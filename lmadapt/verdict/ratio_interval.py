"""Intervals of ratios over documents of unequal size, such as bits per byte."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from lmadapt.core.errors import UserError
from lmadapt.verdict.statistics import Array, Interval


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


def clustered_ratios(
    numerators: Array, denominators: Array, clusters: Array
) -> list[ClusteredRatio]:
    """sum(numerator) / sum(denominator) of each row, when values of one cluster are correlated.

    numerators: (k, n), one row for each quantity; denominators, clusters: (n,). Returns k ratios.
    Raises UserError for fewer than two clusters.

    A ratio is the mean of the clusters' own ratios r_g, weighted by their shares h_g of the
    denominators. Its squared error is sum_g h_g^2 e_g^2 / a_g, with e_g = r_g - ratio: CR2 (Bell &
    McCaffrey 2002), whose a_g = 1 - 2 h_g + sum h^2 makes it unbiased where all r_g vary equally.
    (Where each byte varied alone, as CR2 of a mean takes it, a_g would be 1 - h_g; then a document
    with most of the bytes would seem to vary half as much as it does.) The degrees of freedom are
    Satterthwaite's under the same model (Pustejovsky & Tipton 2018): few where one cluster has most
    of the denominators.
    """
    groups, codes = np.unique(clusters, return_inverse=True)
    if len(groups) < 2:
        raise UserError(
            f"all {len(clusters)} texts belong to one cluster, {str(groups[0])!r}; at least two "
            "clusters are needed to estimate a variance"
        )
    sizes = np.bincount(codes, weights=denominators)
    shares = sizes / sizes.sum()
    evenness = float(np.sum(shares**2))
    factors = shares**2 / (1 - 2 * shares + evenness)
    # The covariance of the deviations e_g, in units of the variance of one r_g.
    covariance = np.eye(len(groups)) - shares - shares[:, None] + evenness
    freedom = evenness**2 / float(factors @ covariance**2 @ factors)
    found = []
    for row in numerators:
        rates = np.bincount(codes, weights=row) / sizes
        value = float(shares @ rates)
        error = float(np.sqrt(factors @ (rates - value) ** 2))
        found.append(ClusteredRatio(value, error, freedom, len(groups)))
    return found
