"""The verdict where no domain is named: whether anything was lost beyond the margins.

docs/gate.md explains the rule. The tests are those of `lmadapt.verdict.decision`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.verdict.decision import MIN_ITEMS, MarginTest, Scored, Verdict
from lmadapt.verdict.statistics import (
    Array,
    PairedChange,
    holm,
    items_needed,
    minimum_detectable_effect,
    noninferiority_p,
    paired_change,
)

QUESTIONS = 2  # all items, and the categories: they share the level of "shown worse"
MAX_REASONS = 3  # in the reason; the evidence holds all of them


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

    def change(chosen: Array) -> PairedChange:
        return paired_change(
            before.scores[chosen], after.scores[chosen], clusters[chosen], significance
        )

    whole = change(np.full(len(before.ids), True))
    parts = {str(name): change(before.categories == name) for name in names}
    worse = holm([part.worse_p for part in parts.values()])
    return Losses(
        _test(whole, margin, whole.worse_p, significance),
        {
            name: _test(part, category_margin, float(p), significance)
            for (name, part), p in zip(parts.items(), worse, strict=True)
        },
    )


def judge_losses(losses: Losses, *, significance: float) -> Verdict:
    """SHIP, HOLD or INCONCLUSIVE on losses alone; a gain is not asked for.

    HOLD: a loss is shown, as a whole or in a category, and not shown to be smaller than its margin.
    Whole and categories share the level evenly (Bonferroni), the categories theirs by Holm's
    procedure. SHIP: every loss is shown to be smaller than its margin, an intersection-union test
    (Berger 1982). INCONCLUSIVE: neither.
    """
    evidence = [_evidence(name, test, significance) for name, test in losses.tests.items()]
    harms = [
        f"{name} became worse by {_points(-test.change.difference)}, and the loss may reach "
        f"{_points(-test.change.interval[0])}"
        for name, test in losses.tests.items()
        if test.harmful(significance)
    ]
    if harms:
        return Verdict("HOLD", _sentence(harms), evidence)
    open_ones = [
        f"{name} is not shown to have lost less than {_points(test.margin)} "
        f"({_signed(test.change.difference)} on {test.change.n:,} items; about "
        f"{test.items_needed:,} would show it if nothing was lost)"
        for name, test in losses.tests.items()
        if not test.acceptable(significance)
    ]
    if open_ones:
        return Verdict("INCONCLUSIVE", _sentence(open_ones), evidence)
    category_margin = max(test.margin for test in losses.categories.values())
    kept = (
        f"any loss is shown to be smaller than {_points(losses.whole.margin)} as a whole and "
        f"{_points(category_margin)} in each of {len(losses.categories)} categories; no gain was "
        "asked for, since no domain was named"
    )
    return Verdict("SHIP", _sentence([kept]), evidence)


def _test(change: PairedChange, margin: float, worse_p: float, significance: float) -> MarginTest:
    return MarginTest(
        change=change,
        margin=margin,
        noninferiority_p=noninferiority_p(change, margin),
        worse_p_adjusted=min(1.0, QUESTIONS * worse_p),
        minimum_detectable_effect=minimum_detectable_effect(change, significance),
        items_needed=items_needed(change, margin, significance),
    )


def _evidence(name: str, test: MarginTest, significance: float) -> str:
    change = test.change
    low, high = change.interval
    shown = "shown" if test.acceptable(significance) else "not shown"
    return (
        f"{name}: {_signed(change.difference)} [{low * 100:+.1f}, {high * 100:+.1f}] on "
        f"{change.n:,} items, {change.lost} lost, {change.gained} gained, {shown} to be within the "
        f"margin of {_points(test.margin)} (p = {test.noninferiority_p:.3g}), "
        f"p = {test.worse_p_adjusted:.3g} (adjusted) against not worse"
    )


def _points(share: float) -> str:
    return f"{share * 100:.1f} points"


def _signed(share: float) -> str:
    return f"{share * 100:+.1f} points"


def _sentence(clauses: Sequence[str]) -> str:
    shown = list(clauses[:MAX_REASONS])
    if len(clauses) > MAX_REASONS:
        shown.append(f"and {len(clauses) - MAX_REASONS} more like it, among the evidence")
    text = "; ".join(shown)
    return f"{text[0].upper()}{text[1:]}."
