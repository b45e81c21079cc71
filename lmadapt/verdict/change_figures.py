"""The figures of accuracies, of bits per byte, and of their changes.

`lmadapt.verdict.figures` holds those of a whole evaluation. This module loads no library but
pydantic.
"""

from typing import Literal

from pydantic import Field

from lmadapt.verdict.figure_types import Count, Figures, Interval, NonNegative, Positive, Share

Group = Literal["domain", "general"]


class Accuracy(Figures):
    """The mean score of one model on some items."""

    accuracy: Share = Field(description="Mean score.")
    n: Positive = Field(description="Number of items.")
    interval: Interval
    chance: Share = Field(
        description="What guessing scores: the mean of 1 / number of choices, 0 for free answers."
    )
    chance_adjusted: float = Field(le=1, description="(accuracy - chance) / (1 - chance).")


class Text(Figures):
    """Bits per byte of held-out text; lower is better. Null with fewer than two texts."""

    value: NonNegative | None
    interval: Interval | None
    bytes: Count = Field(description="UTF-8 bytes of the texts.")
    documents: Count = Field(description="Number of texts.")


class Change(Figures):
    """How scores changed on the same items: later minus earlier."""

    difference: float = Field(ge=-1, le=1, description="Mean later score minus mean earlier score.")
    interval: Interval
    n: Positive = Field(description="Number of items.")
    clusters: Positive = Field(
        description="Number of entities that the items are about; items of one entity are "
        "correlated."
    )
    lost: Count = Field(description="Items whose score fell.")
    gained: Count = Field(description="Items whose score rose.")
    mcnemar_p: Share = Field(description="Exact McNemar test, two-sided.")
    better_p: Share = Field(description='One-sided test against "not better".')
    worse_p: Share = Field(description='One-sided test against "not worse".')


class GradedChange(Figures):
    """The same change in graded scores, the probability of the right choice; it decides."""

    difference: float = Field(ge=-1, le=1, description="Mean later score minus mean earlier score.")
    interval: Interval
    margin: float | None = Field(
        description="The margin, or the smallest gain of the domain, translated into graded "
        "scores. Null where there is none, or the earlier model only guesses."
    )
    noninferiority_p: Share | None = Field(
        description='One-sided test against "the score fell by the margin or more".'
    )
    better_p: Share = Field(description='One-sided test against "not better".')
    worse_p: Share = Field(description='One-sided test against "not worse".')
    worse_p_adjusted: Share = Field(
        description="worse_p, adjusted for the number of questions and for both scores."
    )


class DomainChange(Change):
    """How the domain or one of its categories changed, with the test that can hold a model."""

    graded: GradedChange | None = Field(
        default=None, description="Null when right and wrong answers decide (evaluate.score)."
    )

    worse_p_adjusted: Share = Field(
        description="worse_p, adjusted for the number of questions (Bonferroni and Holm). Compare "
        "it with evaluate.significance."
    )


class DomainTest(DomainChange):
    """How the domain changed as a whole, with the test that it must pass."""

    min_gain: float = Field(
        ge=0, description="The gain that must be exceeded, as a share of the score."
    )
    gain_p: Share = Field(
        description='One-sided test against "the score rose by min_gain or less".'
    )


class MarginTest(DomainChange):
    """How general ability changed, with the tests against the margin."""

    margin: float = Field(
        gt=0, description="The largest loss that is accepted, as a share of the score."
    )
    noninferiority_p: Share = Field(
        description='One-sided test against "the score fell by the margin or more".'
    )
    minimum_detectable_effect: NonNegative = Field(
        description="The smallest true loss that these items show four times out of five."
    )
    items_needed: Positive = Field(
        description="How many items would show four times out of five that the loss is below the "
        "margin, if nothing was lost."
    )
    measurable: bool = Field(
        description="Whether the earlier model is shown to be above chance by more than the "
        "margin. Otherwise these items cannot show that the loss is within it."
    )


class TextChange(Figures):
    """How bits per byte changed: negative is better. Null with fewer than two texts."""

    difference: float | None
    interval: Interval | None
    bytes: Count = Field(description="UTF-8 bytes of the texts.")
    documents: Count = Field(description="Number of texts.")


class CategoryAccuracies(Figures):
    """Accuracy of one model by group and category."""

    domain: dict[str, Accuracy]
    general: dict[str, Accuracy]


class CategoryChanges(Figures):
    """Changes by group and category; only general categories have a margin."""

    domain: dict[str, DomainChange]
    general: dict[str, MarginTest]


class CategoryStepChanges(Figures):
    """Changes in one step by group and category."""

    domain: dict[str, Change]
    general: dict[str, Change]


class TextByGroup(Figures):
    """Bits per byte of domain text and of general text."""

    domain: Text
    general: Text


class TextChangeByGroup(Figures):
    """How bits per byte of domain text and of general text changed."""

    domain: TextChange
    general: TextChange
