"""Gaps between subgroups in how a classifier gives its labels, before and after.

Equal opportunity (Hardt et al. 2016): of the items whose true label it is, how often a subgroup
gets the label. Demographic parity: how often a subgroup gets the label at all.
"""

import json

import numpy as np
from scipy.special import stdtrit

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import ABILITIES, Exam
from lmadapt.sources.answer_checks import named_label
from lmadapt.verdict.item_figures import LabelGaps, SubgroupGap
from lmadapt.verdict.statistics import Array, Interval


def label_gap_figures(
    exam: Exam, before: Answers, after: Answers, significance: float
) -> dict[str, dict[str, LabelGaps]]:
    """By category, then label: the gap of each subgroup to all other items that have a subgroup.

    Items are those of domain and general ability with a check of kind label and a `subgroup`.
    """
    by_category: dict[str, list[int]] = {}
    for place, item in enumerate(exam.items):
        labelled = item["check"] and item["group"] in ABILITIES and item.get("subgroup")
        if labelled and json.loads(item["check"])["kind"] == "label":
            by_category.setdefault(item["category"], []).append(place)
    return {
        category: _by_label(exam, places, before, after, significance)
        for category, places in sorted(by_category.items())
    }


def subgroup_gaps(
    before: Array, after: Array, subgroups: Array, clusters: Array, significance: float
) -> dict[str, SubgroupGap]:
    """By subgroup: mean of its items minus mean of the others, before and after, and the change.

    before, after: (n,) 0 or 1. The change is a weighted sum of paired differences d_i, so its
    error is cluster-robust: sum over clusters of (sum of weight (d_i - mean of its side))^2, times
    G / (G - 1) (CR1, Liang & Zeger 1986), with Student's t on the smaller side's clusters minus 1.
    A cluster may have items on both sides, such as one text about a man and about a woman.
    Subgroups that all or no items have are left out.
    """
    differences = after - before
    figures = {}
    for subgroup in sorted(set(subgroups.tolist())):
        inside = subgroups == subgroup
        if inside.all():
            continue
        gaps = [float(one[inside].mean() - one[~inside].mean()) for one in (before, after)]
        figures[subgroup] = SubgroupGap(
            n=int(inside.sum()),
            others=int((~inside).sum()),
            before=gaps[0],
            after=gaps[1],
            change=gaps[1] - gaps[0],
            interval=_interval(differences, inside, clusters, significance),
        )
    return figures


def _by_label(
    exam: Exam, places: list[int], before: Answers, after: Answers, significance: float
) -> dict[str, LabelGaps]:
    checks = [json.loads(exam.items[place]["check"]) for place in places]
    truth = np.array([check["value"] for check in checks])
    subgroups = np.array([str(exam.items[place].get("subgroup")) for place in places])
    clusters = exam.clusters[places]
    pairs = list(zip(places, checks, strict=True))
    named = [
        np.array([named_label(model.responses[place], check["labels"]) for place, check in pairs])
        for model in (before, after)
    ]

    def gaps(label: str, chosen: Array) -> dict[str, SubgroupGap]:
        given, gives = ((one == label)[chosen].astype(float) for one in named)
        return subgroup_gaps(given, gives, subgroups[chosen], clusters[chosen], significance)

    return {
        label: LabelGaps(
            equal_opportunity=gaps(label, truth == label),
            demographic_parity=gaps(label, np.full(len(truth), True)),
        )
        for label in sorted({one for check in checks for one in check["labels"]})
    }


def _interval(
    differences: Array, inside: Array, clusters: Array, significance: float
) -> Interval | None:
    sides = [len(np.unique(clusters[side])) for side in (inside, ~inside)]
    if min(sides) < 2:
        return None
    centred, weights = differences.copy(), np.empty(len(differences))
    for side, sign in ((inside, 1), (~inside, -1)):
        centred[side] -= differences[side].mean()
        weights[side] = sign / side.sum()
    groups, codes = np.unique(clusters, return_inverse=True)
    sums = np.bincount(codes, weights=weights * centred)
    error = np.sqrt(float(np.sum(sums**2)) * len(groups) / (len(groups) - 1))
    change = float(np.sum(weights * differences))
    half = float(stdtrit(min(sides) - 1, 1 - significance)) * float(error)
    return change - half, change + half
