"""Tests beside the scores: text measures against a margin, and behaviours that were lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lmadapt.verdict.comparison import shared
from lmadapt.verdict.statistics import Array, Interval, exact_p

FEWEST_LOST = 2  # behaviours that make a verdict doubtful although no loss is shown


@dataclass(frozen=True)
class Alarm:
    """A measure of how far a model moved on text, which must not exceed its margin."""

    name: str  # in a sentence before the amount: subject and verb
    unit: Literal["%", "bits per token"]  # "%": figures are shares of 1
    is_loss: bool  # whether any amount above 0 is a loss; every training moves a model
    value: float
    interval: Interval  # confidence 1 - 2 * significance
    margin: float
    # Lower end of the interval at the level of one question, significance / QUESTIONS.
    low_adjusted: float

    def amount(self, value: float) -> str:
        """A value with its unit."""
        return (
            f"{value:.1%}".replace("%", " %") if self.unit == "%" else f"{value:.2f} bits per token"
        )

    def harmful(self) -> bool:
        """Whether the measure is shown to exceed its margin."""
        return self.low_adjusted > self.margin

    def doubtful(self) -> bool:
        """Whether the best estimate exceeds the margin, though that is not shown."""
        return self.value > self.margin and not self.harmful()

    def accepted_loss(self) -> bool:
        """Whether a loss is shown, whose best estimate is within the margin."""
        return self.is_loss and self.low_adjusted > 0 and self.value <= self.margin

    def open(self) -> bool:
        """Whether the best estimate is within the margin, but the interval is not."""
        return self.value <= self.margin <= self.interval[1]


@dataclass(frozen=True)
class BehaviourTest:
    """Behaviours of one family that two models show or do not show; a paired, exact test."""

    name: str  # in a sentence, plural
    n: int
    shown_before: int  # by the reference
    lost: list[str]  # ids; the reference shows it, the adapted model does not
    gained: list[str]
    worse_p: float  # McNemar's exact test, one-sided, against "not worse"

    @property
    def worse_p_adjusted(self) -> float:
        """Compare it with the level of the verdict."""
        return shared(self.worse_p)

    def harmful(self, significance: float) -> bool:
        """Whether more are shown to be lost than gained."""
        return self.worse_p_adjusted <= significance

    def doubtful(self, significance: float) -> bool:
        """Whether most are lost, but there are too few to show it."""
        net = len(self.lost) - len(self.gained)
        most = net >= FEWEST_LOST and 2 * net >= self.shown_before
        return most and not self.harmful(significance)


def behaviour_test(name: str, ids: Sequence[str], before: Array, after: Array) -> BehaviourTest:
    """Test one family. before, after: (n,) bool, whether each model shows the behaviour of `ids`.

    Behaviours count as independent of each other. The test is exact (McNemar 1947): with no gain, 8
    lost behaviours are needed to show a loss at a level of 0.05 that 8 questions share.
    """
    lost, gained = before & ~after, after & ~before
    return BehaviourTest(
        name=name,
        n=len(ids),
        shown_before=int(before.sum()),
        lost=[one for one, hit in zip(ids, lost, strict=True) if hit],
        gained=[one for one, hit in zip(ids, gained, strict=True) if hit],
        worse_p=exact_p(after.astype(float) - before.astype(float))[1],
    )
