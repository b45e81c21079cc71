"""Calibration: whether a model is as often right as its probabilities of the choices say."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, stdtrit

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import ABILITIES, Exam
from lmadapt.verdict.item_figures import (
    Calibration,
    CalibrationScores,
    GroupCalibration,
    ScoreChange,
)
from lmadapt.verdict.statistics import Array, clustered_mean

BINS, BIN_ITEMS = 10, 50  # at most, and at least
MIN_ITEMS = 100  # of a group: two bins
SPLITS = 20  # draws of halves
JACKKNIFE_GROUPS = 20
TEMPERATURES = (0.01, 10.0)  # nats a byte; choices of one item differ by about 0.05 to 2


def calibration_figures(
    exam: Exam, answers: Mapping[str, Answers], reference: str, significance: float
) -> Calibration | None:
    """Calibration by group and model, with the change from `reference` to "adapted".

    The probability of a choice is softmax(log-likelihood per byte / temperature). One temperature,
    fitted on the reference, serves every model. So the reference is calibrated as well as one
    number can make it, and the change says what training did. The choice with the highest
    probability is the one that the exam counts as the answer.
    Groups with fewer than 100 multiple-choice items, or items about a single entity, are left out;
    None when no group is left.
    """
    places = {group: _places(exam, group) for group in ABILITIES}
    places = {group: own for group, own in places.items() if _measurable(exam, own)}
    if not places:
        return None
    everything = sorted(place for own in places.values() for place in own)
    temperature = _fit_temperature(exam, answers[reference], everything)
    groups = {}
    for group, own in places.items():
        found = {
            name: _probabilities(exam, model, own, temperature) for name, model in answers.items()
        }
        groups[group] = _group_figures(
            found, _right(exam, own), exam.clusters[own], reference, significance
        )
    return Calibration(temperature=temperature, groups=groups)


class CalibrationError:
    """The expected calibration error of models on the same items, and how precise a change is.

    The items are sorted by confidence, the probability of the likeliest choice, into bins with
    equally many items (Nguyen & O'Connor 2015): ten, or fewer so that each has 50. The error is
    the mean of |mean confidence - share right| over the bins. Its plain estimate is too large,
    since chance alone moves a bin away from zero, most so for a model that is well calibrated. So
    the items are cut into halves, by cluster: one half says on which side of zero a bin is, the
    other how far. The mean over 20 draws of halves is right for bins that are far from zero or on
    it, and a little too small between. The interval of a change is Student's on the delete-a-group
    jackknife (Kott 2001) of 20 groups of clusters.
    """

    def __init__(self, clusters: Array) -> None:
        """`clusters`: (n,), of the items."""
        names, codes = np.unique(clusters, return_inverse=True)
        sides = np.random.default_rng(0).permuted(
            np.tile(np.arange(len(names)) % 2, (SPLITS, 1)), axis=1
        )
        self._halves = sides[:, codes].astype(float)  # (splits, n), 0 or 1
        self._groups = codes % min(JACKKNIFE_GROUPS, len(names))

    def of(
        self, probabilities: Sequence[Array], right: Array, chosen: Array | None = None
    ) -> float:
        """The error on the `chosen` items, (n,) bool, or on all; negative only by chance."""
        confidence = np.array([values.max() for values in probabilities])
        picked = np.array([int(values.argmax()) for values in probabilities])
        excess, halves = confidence - (picked == right), self._halves
        if chosen is not None:
            confidence, excess, halves = confidence[chosen], excess[chosen], halves[:, chosen]
        order = np.argsort(confidence, kind="stable")
        total = 0.0
        for members in np.array_split(order, max(1, min(BINS, len(right) // BIN_ITEMS))):
            one = halves[:, members] @ excess[members]
            other = float(excess[members].sum()) - one
            total += float(np.mean(np.sign(other) * one + np.sign(one) * other))
        return total / len(order)

    def change(
        self, before: Sequence[Array], after: Sequence[Array], right: Array, significance: float
    ) -> ScoreChange:
        """The error of `after` minus that of `before`, which are probabilities of the choices."""

        def difference(chosen: Array | None = None) -> float:
            return self.of(after, right, chosen) - self.of(before, right, chosen)

        count = int(self._groups.max()) + 1
        found = difference()
        left = np.array([difference(self._groups != group) for group in range(count)])
        error = math.sqrt((count - 1) / count * float(np.sum((left - left.mean()) ** 2)))
        half = float(stdtrit(count - 1, 1 - significance)) * error
        return ScoreChange(difference=found, interval=(found - half, found + half))


def brier_scores(probabilities: Sequence[Array], right: Array) -> Array:
    """Brier's (1950) score of each item, (n,): squared distances summed over choices, 0 to 2."""
    pairs = zip(probabilities, right, strict=True)
    return np.array([float(np.sum(values**2) + 1 - 2 * values[one]) for values, one in pairs])


def _places(exam: Exam, group: str) -> list[int]:
    return [
        place for place, item in enumerate(exam.items) if item["group"] == group and item["choices"]
    ]


def _measurable(exam: Exam, places: list[int]) -> bool:
    return len(places) >= MIN_ITEMS and len(set(exam.clusters[places].tolist())) > 1


def _right(exam: Exam, places: list[int]) -> Array:
    """The index of the right choice of the items at `places`, (n,)."""
    return np.array([int(exam.items[place]["answer"] or 0) for place in places])


def _fit_temperature(exam: Exam, answers: Answers, places: list[int]) -> float:
    """The temperature at which the right choices are likeliest (Guo et al. 2017)."""
    per_byte = [_per_byte(exam, answers, place) for place in places]
    right = _right(exam, places).tolist()

    def loss(logarithm: float) -> float:
        pairs = zip(per_byte, right, strict=True)
        return -sum(float(log_softmax(own / np.exp(logarithm))[one]) for own, one in pairs)

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def _probabilities(
    exam: Exam, answers: Answers, places: list[int], temperature: float
) -> list[Array]:
    """The probability of each choice of the items at `places`."""
    return [np.exp(log_softmax(_per_byte(exam, answers, own) / temperature)) for own in places]


def _per_byte(exam: Exam, answers: Answers, place: int) -> Array:
    sizes = [len(choice.encode()) for choice in exam.items[place]["choices"]]
    per_byte: Array = np.array(answers.log_likelihoods[place]) / np.array(sizes)
    return per_byte


def _group_figures(
    probabilities: Mapping[str, Sequence[Array]],
    right: Array,
    clusters: Array,
    reference: str,
    significance: float,
) -> GroupCalibration:
    error = CalibrationError(clusters)
    briers = {name: brier_scores(own, right) for name, own in probabilities.items()}
    before, after = probabilities[reference], probabilities["adapted"]
    return GroupCalibration(
        n=len(right),
        models={
            name: CalibrationScores(
                ece=max(0.0, error.of(own, right)), brier=float(briers[name].mean())
            )
            for name, own in probabilities.items()
        },
        ece_change=error.change(before, after, right, significance),
        brier_change=_mean_change(briers["adapted"] - briers[reference], clusters, significance),
    )


def _mean_change(differences: Array, clusters: Array, significance: float) -> ScoreChange:
    """The mean of paired differences with Student's interval on the cluster-robust error."""
    difference, mean = float(differences.mean()), clustered_mean(differences, clusters)
    quantile = float(stdtrit(mean.degrees_of_freedom, 1 - significance))
    half = quantile * mean.standard_error
    return ScoreChange(difference=difference, interval=(difference - half, difference + half))
