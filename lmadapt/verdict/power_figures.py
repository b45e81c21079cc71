"""The figures of metrics/exam.json: what an exam can decide, and the sentences that say so."""

from lmadapt.verdict.figure_types import Figures

WARNED_CHURN = 0.05
LEAST_SHIP = 0.5  # less is warned of: the exam then fails a good model more often than not


class Rate(Figures):
    """A share of the draws, and the 95 % interval of the simulation's error (Wilson)."""

    share: float
    low: float
    high: float


class Outcomes(Figures):
    """How often each outcome comes at a churn, and the items that make SHIP likely."""

    churn: float  # share of the items that change
    ship: Rate
    hold: Rate
    inconclusive: Rate
    items_needed: int | None  # for SHIP in 80 %; null: over ten million


class QuestionPower(Figures):
    """One question of the verdict: the domain, general ability, or a category of it."""

    name: str
    items: int
    clusters: int
    cluster_size: float  # mean size seen by an item: sum of squares / items
    margin: float | None  # null: the domain, which must become better
    passes_unchanged: bool  # whether it is shown to be within its margin when no answer changes
    items_to_pass_unchanged: int | None
    outcomes: list[Outcomes]  # of this question alone, by churn

    @property
    def impassable(self) -> str:
        """That its items are too few for its margin; "" where they suffice."""
        if self.passes_unchanged or self.margin is None:
            return ""
        needed = self.items_to_pass_unchanged
        count = "over ten million" if needed is None else f"about {needed:,}"
        return (
            f"{self.items:,} items in {self.clusters:,} clusters cannot show a loss below "
            f"{self.margin * 100:g} points, even if no answer changes; {count} can"
        )


class GrownExam(Figures):
    """Sizes with which a model that lost nothing gets SHIP in 80 %, and how often it then does."""

    churn: float
    items: dict[str, int]  # by "domain" and general category
    ship: Rate | None  # by simulation; null: too large to simulate


class ExamPower(Figures):
    """What an exam can decide about a model that lost nothing."""

    score: str
    gain: float
    correlation: float
    draws: int
    seed: int
    can_ship: bool  # whether any result at all is SHIP
    verdict: list[Outcomes]  # by churn; `items_needed` counts all items
    questions: list[QuestionPower]
    grown: list[GrownExam]  # by churn; empty where sizes were not simulated

    @property
    def impassable(self) -> list[QuestionPower]:
        """The questions that no model passes unless it gains in them."""
        return [one for one in self.questions if not one.passes_unchanged]

    @property
    def undecidable(self) -> str:
        """That no result is SHIP; "" where one is."""
        return "" if self.can_ship else "not even a model with every answer right gets SHIP"

    @property
    def unlikely(self) -> str:
        """That SHIP is less likely than LEAST_SHIP at WARNED_CHURN; "" where it is not."""
        [seen] = [one for one in self.verdict if one.churn == WARNED_CHURN]
        return self.chance if seen.ship.share < LEAST_SHIP else ""

    @property
    def chance(self) -> str:
        """How likely SHIP is at WARNED_CHURN, as a clause."""
        [seen] = [one for one in self.verdict if one.churn == WARNED_CHURN]
        needed = "over ten million" if seen.items_needed is None else f"{seen.items_needed:,}"
        ship = seen.ship
        return (
            f"P(SHIP) {ship.share:.2f} [{ship.low:.2f}, {ship.high:.2f}] for a model that lost "
            f"nothing and gained {self.gain * 100:g} points, at {WARNED_CHURN * 100:g} % churn; "
            f"80 % need about {needed} items"
        )
