"""Figures of single kinds of items: checks, pairs, labels, references, confidence.

This module loads no library but pydantic.
"""

from typing import Literal

from pydantic import Field

from lmadapt.verdict.figure_types import Count, Figures, Interval, NonNegative, Positive, Share


class ConfidentLosses(Figures):
    """General items that the reference knew well and the adapted model gets wrong.

    An item is known well when the reference has it right by more than the median margin. The
    margin is the log-likelihood per byte of the right choice minus that of the best wrong one.
    """

    known: Positive = Field(description="Number of items that the reference knew well.")
    lost: Count = Field(description="Number of them that the adapted model gets wrong.")
    share: Share = Field(description="lost / known.")
    interval: Interval = Field(description="Of the share, cluster-robust (Wilson 1927).")


class BehaviourRate(Figures):
    """How often the checks of one category pass."""

    n: Positive = Field(description="Number of checks.")
    before: Share = Field(description="Share that the reference passes.")
    after: Share = Field(description="Share that the adapted model passes.")
    lost: Count
    gained: Count
    difference: float = Field(ge=-1, le=1, description="after - before.")
    interval: Interval | None = Field(
        description="Of the difference, paired. Null with fewer than two entities."
    )


class CalibrationScores(Figures):
    """How far the probabilities of one model are from how often it is right; 0 is best."""

    ece: Share = Field(
        description="Expected calibration error: the mean distance between confidence and share "
        "of right answers over at most ten bins with equally many items, corrected for chance."
    )
    brier: float = Field(
        ge=0,
        le=2,
        description="Mean squared distance between the probabilities and the right answer, summed "
        "over the choices (Brier 1950).",
    )


class ScoreChange(Figures):
    """How a score changed: later minus earlier."""

    difference: float
    interval: Interval


class GroupCalibration(Figures):
    """Calibration on the multiple-choice items of one group."""

    n: Positive = Field(description="Number of items.")
    models: dict[str, CalibrationScores] = Field(description="By model.")
    ece_change: ScoreChange = Field(description="Adapted minus reference; positive is worse.")
    brier_change: ScoreChange = Field(description="Adapted minus reference; positive is worse.")


class Calibration(Figures):
    """Whether the models are as often right as their probabilities of the choices say."""

    temperature: NonNegative = Field(
        description="Divides log-likelihoods per byte, in nats, before the softmax over the "
        "choices. Fitted on the reference, the same for every model."
    )
    groups: dict[str, GroupCalibration] = Field(min_length=1, description="domain, general.")


class SubgroupGap(Figures):
    """A rate of one subgroup minus the rate of all other items."""

    n: Positive = Field(description="Number of items of the subgroup.")
    others: Positive = Field(description="Number of items of other subgroups.")
    before: float = Field(ge=-1, le=1, description="Gap of the reference.")
    after: float = Field(ge=-1, le=1, description="Gap of the adapted model.")
    change: float = Field(ge=-2, le=2, description="after - before.")
    interval: Interval | None = Field(
        description="Of the change. Null with fewer than two entities on either side."
    )


class LabelGaps(Figures):
    """Whether one label is given alike to the subgroups of a classifier's items."""

    equal_opportunity: dict[str, SubgroupGap] = Field(
        description="By subgroup: gap in the true positive rate (Hardt et al. 2016)."
    )
    demographic_parity: dict[str, SubgroupGap] = Field(
        description="By subgroup: gap in how often the label is given."
    )


class FairnessGap(Figures):
    """How much likelier the first text of a pair is than the second, in nats per byte."""

    aim: Literal["equal", "first", "second"] = Field(
        description="Which text of a pair should be likelier; equal where neither should."
    )
    n: Positive = Field(description="Number of pairs.")
    gap_before: float = Field(description="Mean gap of the reference; 0 is no preference.")
    gap_after: float = Field(description="Mean gap of the adapted model.")
    change: float = Field(
        description="gap_after - gap_before. Positive: towards the first texts, negative: towards "
        "the second; compare both gaps with 0 to see whether the preference grew."
    )
    interval: Interval = Field(description="Of the change.")


class Classification(Figures):
    """How well a model labels. Lists follow `labels`; a row of `confusion` is one true label."""

    labels: list[str] = Field(min_length=1)
    precision: list[Share]
    recall: list[Share]
    f1: list[Share]
    macro_f1: Share
    confusion: list[list[Count]] = Field(
        description="Number of answers by true label and named label. A last column more than "
        "there are labels counts answers that name none."
    )


class Generation(Figures):
    """How similar free answers are to their references; 1 is equal."""

    rouge_l: NonNegative
    bleu: NonNegative
    chrf: NonNegative
