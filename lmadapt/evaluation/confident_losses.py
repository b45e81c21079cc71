"""Confident losses: general items that the reference knew well and the adapted model gets wrong."""

from collections.abc import Sequence

import numpy as np

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import Exam, Item
from lmadapt.verdict.item_figures import ConfidentLosses
from lmadapt.verdict.statistics import accuracy_interval


def known_well(exam: Exam, reference: Answers) -> list[int]:
    """Places of the general multiple-choice items that the reference has right with a wide margin.

    The margin is the log-likelihood per UTF-8 byte of the right choice minus that of the best wrong
    one, in nats. It is wide when it is above the median of the items that the reference has right.
    """
    right = [
        place
        for place, item in enumerate(exam.items)
        if item["group"] == "general" and item["choices"] and reference.scores[place] == 1
    ]
    margins = [_margin(exam.items[place], reference.log_likelihoods[place]) for place in right]
    limit = float(np.median(margins)) if margins else 0.0
    return [place for place, margin in zip(right, margins, strict=True) if margin > limit]


def confident_losses(
    exam: Exam, reference: Answers, adapted: Answers, significance: float
) -> ConfidentLosses | None:
    """How many of the items that the reference knew well were lost; None where nobody can say.

    That is so with items about fewer than two entities. The interval has confidence
    1 - 2 * `significance`.
    """
    known = known_well(exam, reference)
    clusters = exam.clusters[known]
    if len(set(clusters.tolist())) < 2:
        return None
    lost = (adapted.scores[known] < 1).astype(float)
    return ConfidentLosses(
        known=len(known),
        lost=int(lost.sum()),
        share=float(lost.mean()),
        interval=accuracy_interval(lost, clusters, significance),
    )


def lost_confidently(exam: Exam, reference: Answers, adapted: Answers) -> set[str]:
    """Ids of the items that the reference knew well and the adapted model gets wrong."""
    known = known_well(exam, reference)
    return {exam.items[place]["id"] for place in known if adapted.scores[place] < 1}


def _margin(item: Item, log_likelihoods: Sequence[float]) -> float:
    per_byte = [
        value / len(choice.encode())
        for value, choice in zip(log_likelihoods, item["choices"], strict=True)
    ]
    right = per_byte.pop(int(item["answer"] or 0))
    return right - max(per_byte, default=float("-inf"))
