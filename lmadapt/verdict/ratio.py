"""The ratio of two paired means, with Fieller's interval."""

import math

import numpy as np
from scipy.special import stdtrit

from lmadapt.verdict.statistics import Array, Interval, clustered_mean


def paired_ratio(
    after: Array, before: Array, clusters: Array, significance: float
) -> tuple[float, Interval] | None:
    """mean(after) / mean(before) of the same items; None unless mean(before) is shown above zero.

    after, before, clusters: (n,). The interval (Fieller 1954) holds the ratios r for which a test
    of mean(after - r before) = 0 does not reject; its confidence is 1 - 2 * `significance`, with
    the cluster-robust error and Student's t. The error is taken with two imagined clusters of mean
    size added, in each of which only one of the models is right (the idea of Agresti & Min 2005):
    otherwise few items that all agree would prove anything. With fewer than two clusters the
    result is None.
    """
    groups = np.unique(clusters)
    if len(groups) < 2:
        return None
    size = max(1, round(len(clusters) / len(groups)))
    ones, zeros = np.ones(size), np.zeros(size)
    names = np.array(["\0only after"] * size + ["\0only before"] * size)
    longer = np.concatenate([clusters, names])
    above = np.concatenate([after, ones, zeros]), np.concatenate([before, zeros, ones])

    def variance(weight_after: float, weight_before: float) -> float:
        values = weight_after * above[0] + weight_before * above[1]
        return clustered_mean(values, longer).standard_error ** 2

    own, other = variance(1, 0), variance(0, 1)
    shared = (variance(1, 1) - own - other) / 2
    freedom = clustered_mean(before, clusters).degrees_of_freedom
    square = float(stdtrit(freedom, 1 - significance)) ** 2
    top, bottom = float(after.mean()), float(before.mean())
    a, b = bottom**2 - square * other, top * bottom - square * shared
    if a <= 0 or bottom <= 0:
        return None
    half = math.sqrt(max(0.0, b**2 - a * (top**2 - square * own)))
    return top / bottom, ((b - half) / a, (b + half) / a)
