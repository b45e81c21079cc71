"""How many items an exam needs, so that a model that lost nothing passes with a stated power.

The figures are for planning: normal approximations, which `exam_power` checks by simulation.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from lmadapt.verdict.hypotheses import null_error
from lmadapt.verdict.statistics import Array, ClusteredMean, clustered_mean

MOST_ITEMS = 10_000_000
STEPS = 30  # of a bisection


@dataclass(frozen=True)
class Question:
    """A question of the verdict: how its items form clusters, and what must be shown on them."""

    items: int
    clusters: int
    cluster_size: float  # mean size seen by an item: sum of squares / items (Kish 1965)
    degrees_of_freedom: float  # of the cluster-robust error, as in `clustered_mean`
    margin: float | None  # the accepted loss; None: the score must become better
    gain: float  # the true gain where there is no margin
    correlation: float  # of the changes of two items of a cluster
    significance: float


def ask(
    clusters: Array, *, margin: float | None, gain: float, correlation: float, significance: float
) -> Question:
    """The question about items with these clusters, (n,). Raises UserError for a single cluster."""
    sizes = np.unique(clusters, return_counts=True)[1]
    mean = clustered_mean(np.zeros(len(clusters)), clusters)
    return Question(
        items=len(clusters),
        clusters=len(sizes),
        cluster_size=float(np.sum(sizes**2) / len(clusters)),
        degrees_of_freedom=mean.degrees_of_freedom,
        margin=margin,
        gain=gain,
        correlation=correlation,
        significance=significance,
    )


def power(question: Question, items: int, churn: float) -> float:
    """The probability that the test succeeds on so many items with clusters of the same sizes.

    `churn`: the share of items that change, half of them lost. The variance of one item's change is
    churn times the design effect 1 + correlation * (cluster size - 1); the error of the test
    against a margin is `null_error`, with the design effect that `clustered_mean` would find.
    """
    size, growth = question.cluster_size, items / question.items
    gain = 0.0 if question.margin is not None else question.gain
    variance = churn + gain - gain**2
    design = 1 + question.correlation * (size - 1)
    error = math.sqrt(variance * design / items)
    spread = variance * items
    seen_design = max(1.0, (spread * design + size**2) / (spread + size))
    freedom = max(1.0, question.degrees_of_freedom * growth)
    mean = ClusteredMean(items, question.clusters, error, freedom, items / seen_design)
    quantile = float(stdtrit(freedom, 1 - question.significance))
    if question.margin is None:
        # 1 / items: McNemar's exact test decides in whole items (Casagrande et al. 1978).
        room = gain - 1 / items - quantile * error
    else:
        room = question.margin - quantile * null_error(mean, churn / 2, churn / 2, -question.margin)
    return float(room >= 0) if error == 0 else float(ndtr(room / error))


def items_for(question: Question, churn: float, target: float) -> int | None:
    """The fewest items with which the test succeeds with probability `target`.

    None: over MOST_ITEMS.
    """
    return _fewest(lambda items: power(question, items, churn) >= target)


def exam_sizes(questions: Mapping[str, Question], churn: float, target: float) -> dict[str, int]:
    """Items of "domain" and of each category, so that all tests succeed with probability `target`.

    No category shrinks. All tests get the same power, and categories grow together until general
    ability as a whole has it too; tests are taken for independent. {} where that needs over
    MOST_ITEMS in a category. `questions`: "domain", "general ability", and the categories.
    """
    low, high = target, 1 - 1e-9
    for _ in range(STEPS):
        each = (low + high) / 2
        sizes = _sizes(questions, churn, each)
        if sizes and _joint_power(questions, churn, sizes) < target:
            low = each
        else:
            high = each
    return _sizes(questions, churn, high)


def _sizes(questions: Mapping[str, Question], churn: float, each: float) -> dict[str, int]:
    needed = {name: items_for(one, churn, each) for name, one in questions.items()}
    if any(count is None for count in needed.values()):
        return {}
    sizes = {name: max(questions[name].items, count or 0) for name, count in needed.items()}
    whole, domain = sizes.pop("general ability"), sizes.pop("domain")
    growth = max(1.0, whole / sum(sizes.values()))
    return {"domain": domain} | {name: math.ceil(size * growth) for name, size in sizes.items()}


def _joint_power(
    questions: Mapping[str, Question], churn: float, sizes: Mapping[str, int]
) -> float:
    whole = sum(size for name, size in sizes.items() if name != "domain")
    counts = {"general ability": whole, **sizes}
    return math.prod(power(one, counts[name], churn) for name, one in questions.items())


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest number up to MOST_ITEMS that is enough, where every larger one is too."""
    high = 2
    while not enough(high):
        if high >= MOST_ITEMS:
            return None
        high = min(2 * high, MOST_ITEMS)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
