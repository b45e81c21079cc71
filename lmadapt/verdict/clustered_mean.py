"""The mean of values of which those of one cluster are correlated, and how precise it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmadapt.core.errors import UserError

Interval = tuple[float, float]
Array = NDArray[Any]


@dataclass(frozen=True)
class ClusteredMean:
    """How precise the mean of clustered values is."""

    n: int
    clusters: int
    standard_error: float  # cluster-robust
    degrees_of_freedom: float  # of Student's t for that error
    effective_n: float  # how many independent values would be as precise; at most n


def clustered_mean(values: Array, clusters: Array, *, whole: float = 1.0) -> ClusteredMean:
    """Precision of the mean of `values` when values of one cluster are correlated.

    values, clusters: (n,); whole: how far a value may change, 1 for right and wrong answers.
    Raises UserError for fewer than two clusters.

    Standard error: CR2 (Bell & McCaffrey 2002). For a mean it is
    sqrt(sum_g u_g^2 / (1 - h_g)) / n, with u_g the sum of the deviations in cluster g, and h_g the
    share of the values that are in it. Degrees of freedom: Satterthwaite's (Pustejovsky & Tipton
    2018). Effective n: n / design effect (Kish 1965). The design effect includes one imagined
    cluster of mean size whose values changed by `whole`, as Agresti & Min 2005 add pairs.
    """
    groups, codes = np.unique(clusters, return_inverse=True)
    if len(groups) < 2:
        raise UserError(
            f"all {len(values)} items belong to one cluster, {str(groups[0])!r}; at least two "
            "clusters are needed to estimate a variance"
        )
    n, deviations = len(values), values - values.mean()
    shares = np.bincount(codes) / n
    between = float(np.sum(np.bincount(codes, weights=deviations) ** 2 / (1 - shares)))
    size, squared = n * float(np.sum(shares**2)), whole**2
    within = float(np.sum(deviations**2))
    design_effect = max(1.0, (between + squared * size**2) / (within + squared * size))
    error, freedom = float(np.sqrt(between)) / n, satterthwaite_freedom(shares)
    return ClusteredMean(n, len(groups), error, freedom, n / design_effect)


def satterthwaite_freedom(shares: Array) -> float:
    """Degrees of freedom of the CR2 error of a mean; `shares` are the clusters' shares of it.

    Pustejovsky & Tipton 2018, for values that are independent and vary alike.
    """
    leverage = shares**2 / (1 - shares)
    return float(1 / (np.sum(shares**2) + np.sum(leverage) ** 2 - np.sum(leverage**2)))
