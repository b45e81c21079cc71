"""Figures of single kinds of items: checks, pairs, labels, references, confidence.

This module loads no library but pydantic.
"""

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


class FairnessGap(Figures):
    """How much likelier the first text of a pair is than the second, in nats per byte."""

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
