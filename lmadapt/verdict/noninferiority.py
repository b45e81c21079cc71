"""The verdict where no domain is named: whether anything was lost beyond the margins.

docs/gate.md explains the rule. The tests are those of `lmadapt.verdict.decision`.
"""

from dataclasses import dataclass

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.verdict.comparison import MIN_ITEMS, HarmTest, MarginTest, Scored
from lmadapt.verdict.decision import Verdict
from lmadapt.verdict.statistics import (
    Array,
    accuracy_interval,
    holm,
    items_needed,
    minimum_detectable_effect,
    noninferiority_p,
    paired_change,
)
from lmadapt.verdict.wording import margin_line, points, sentence

QUESTIONS = 2  # all items, and the categories: they share the level of "shown worse"


@dataclass(frozen=True)
class Losses:
    """How scores changed, each tested against its margin."""

    whole: MarginTest
    categories: dict[str, MarginTest]

    @property
    def tests(self) -> dict[str, MarginTest]:
        """The whole, then the categories."""
        return {"accuracy as a whole": self.whole, **self.categories}


def compare_losses(
    before: Scored, after: Scored, *, margin: float, category_margin: float, significance: float
) -> Losses:
    """Compare two models on all items, whatever their group, which must be the same on both sides.

    Margins and significance are as in `lmadapt.verdict.decision.compare`. Raises UserError for a
    category with fewer than 30 items.
    """
    names, counts = np.unique(before.categories, return_counts=True)
    if (counts < MIN_ITEMS).any():
        few = str(names[counts.argmin()])
        raise UserError(
            f"category {few!r} has {counts.min()} items; at least {MIN_ITEMS} are needed"
        )
    clusters = np.unique(before.clusters, return_inverse=True)[1]

    def harm(chosen: Array) -> HarmTest:
        earlier, later = before.scores[chosen], after.scores[chosen]
        change = paired_change(earlier, later, clusters[chosen], significance)
        return HarmTest(change, min(1.0, QUESTIONS * change.worse_p), None)

    def test(of: HarmTest, chosen: Array, accepted: float) -> MarginTest:
        reference = before.scores[chosen]
        return MarginTest(
            **vars(of),
            margin=accepted,
            noninferiority_p=noninferiority_p(of.change, accepted),
            minimum_detectable_effect=minimum_detectable_effect(of.change, significance),
            items_needed=items_needed(of.change, accepted, significance),
            reference=float(reference.mean()),
            reference_low=accuracy_interval(reference, clusters[chosen], significance)[0],
            chance=0.0,  # results of other programs do not say how likely a guess is right
        )

    everything = np.full(len(before.ids), True)
    inside = {str(name): before.categories == name for name in names}
    parts = {name: harm(chosen) for name, chosen in inside.items()}
    worse = holm([part.change.worse_p for part in parts.values()])
    return Losses(
        test(harm(everything), everything, margin),
        {
            name: test(
                HarmTest(parts[name].change, min(1.0, QUESTIONS * float(p)), None),
                inside[name],
                category_margin,
            )
            for name, p in zip(parts, worse, strict=True)
        },
    )


def judge_losses(losses: Losses, *, significance: float) -> Verdict:
    """SHIP, HOLD or INCONCLUSIVE on losses alone; a gain is not asked for.

    HOLD: a loss is shown, as a whole or in a category, and not shown to be smaller than its margin.
    Whole and categories share the level evenly (Bonferroni), the categories theirs by Holm's
    procedure. SHIP: every loss is shown to be smaller than its margin, an intersection-union test
    (Berger 1982). INCONCLUSIVE: neither.
    """
    evidence = [margin_line(name, test, significance) for name, test in losses.tests.items()]
    harms = [
        f"{name} became worse by {points(-test.change.difference)}, and the loss may reach "
        f"{points(-test.change.interval[0])}"
        for name, test in losses.tests.items()
        if test.harmful(significance)
    ]
    if harms:
        return Verdict("HOLD", sentence(harms), [], evidence)
    unsettled = [
        _open_question(name, test)
        for name, test in losses.tests.items()
        if not test.acceptable(significance)
    ]
    if unsettled:
        return Verdict("INCONCLUSIVE", sentence(unsettled), [], evidence)
    category_margin = max(test.margin for test in losses.categories.values())
    kept = (
        f"any loss is shown to be smaller than {points(losses.whole.margin)} as a whole and "
        f"{points(category_margin)} in each of {len(losses.categories)} categories; no gain was "
        "asked for, since no domain was named"
    )
    reservations = [
        f"{name} became worse by {points(-test.change.difference)}, which is within its margin"
        for name, test in losses.tests.items()
        if test.worse_p_adjusted <= significance
    ]
    return Verdict("SHIP", sentence([kept]), reservations, evidence)


def _open_question(name: str, test: MarginTest) -> str:
    if not test.measurable:
        return (
            f"{name} is not measurable: the earlier model scores {points(test.reference)}, too "
            f"little to lose {points(test.margin)}"
        )
    return (
        f"{name} is not shown to have lost less than {points(test.margin)} "
        f"({points(test.change.difference, sign=True)} on {test.change.n:,} items; about "
        f"{test.items_needed:,} would show it if nothing was lost)"
    )
