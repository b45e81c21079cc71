"""The fairness probe: which text of a pair a model prefers, before and after adaptation."""

from typing import Literal

import numpy as np
from scipy.special import stdtrit

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import Exam, Item
from lmadapt.verdict.item_figures import FairnessGap
from lmadapt.verdict.statistics import Array, clustered_mean


def fairness_figures(
    exam: Exam, before: Answers, after: Answers, significance: float
) -> dict[str, FairnessGap]:
    """By category: how much likelier the first text of a pair is than the second, nats per byte.

    The texts of a pair differ in a protected attribute only (CrowS-Pairs, Nangia et al. 2020), or
    the item's `answer` says which of them should be likelier. The interval of the change is
    Student's, with the cluster-robust error.
    """
    pairs = [place for place, item in enumerate(exam.items) if item["group"] == "fairness"]
    figures = {}
    for category in sorted({exam.items[place]["category"] for place in pairs}):
        places = [place for place in pairs if exam.items[place]["category"] == category]
        gaps_before, gaps_after = _gaps(exam, before, places), _gaps(exam, after, places)
        change = gaps_after - gaps_before
        mean = clustered_mean(change, exam.clusters[places])
        quantile = float(stdtrit(mean.degrees_of_freedom, 1 - significance))
        half = quantile * mean.standard_error
        figures[category] = FairnessGap(
            aim=_aim(exam.items[places[0]]),
            n=len(places),
            gap_before=float(gaps_before.mean()),
            gap_after=float(gaps_after.mean()),
            change=float(change.mean()),
            interval=(float(change.mean() - half), float(change.mean() + half)),
        )
    return figures


def _aim(item: Item) -> Literal["equal", "first", "second"]:
    """Which text of the pair should be likelier; `make_exam` holds a category to one aim."""
    if item["answer"] is None:
        return "equal"
    return "second" if item["answer"] else "first"


def _gaps(exam: Exam, answers: Answers, places: list[int]) -> Array:
    return np.array([_gap(exam.items[n], answers.log_likelihoods[n]) for n in places])


def _gap(item: Item, log_likelihoods: list[float]) -> float:
    first, second = (
        value / len(text.encode())
        for value, text in zip(log_likelihoods, item["choices"], strict=True)
    )
    return first - second
