"""May the adapted model be shipped? A pure function of paired results; docs/verdict.md explains it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.verdict.statistics import (
    Array,
    PairedChange,
    holm,
    items_needed,
    minimum_detectable_effect,
    noninferiority_p,
    paired_change,
)

Outcome = Literal["SHIP", "HOLD", "INCONCLUSIVE"]

MIN_ITEMS = (
    30  # a category with fewer says next to nothing: with none changed, its margin is 0.09 at best
)
MAX_REASONS = 3  # in the sentence; all stand in the evidence
QUESTIONS = 3  # domain, general as a whole, its categories: the level of "shown worse" is shared between them


@dataclass(frozen=True)
class Scored:
    """Items as one model answered them; arrays of equal length, one entry an item."""

    ids: Array
    groups: Array  # domain | general; others are not judged here
    categories: Array
    clusters: Array  # items of one cluster are correlated
    scores: Array  # 0.0 to 1.0; of most items only those two


@dataclass(frozen=True)
class MarginTest:
    """A change of general ability and what it says about the margin."""

    change: PairedChange
    margin: float
    noninferiority_p: float
    worse_p_adjusted: float  # compare with the level of the whole verdict
    minimum_detectable_effect: float
    items_needed: int  # to show that nothing of the size of the margin was lost, if nothing was

    def acceptable(self, significance: float) -> bool:
        """Whether the loss, if there is any, is shown to be smaller than the margin."""
        return self.noninferiority_p <= significance

    def harmful(self, significance: float) -> bool:
        """Whether a loss is shown, and is not shown to be smaller than the margin."""
        return self.worse_p_adjusted <= significance and not self.acceptable(significance)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same items."""

    domain: PairedChange
    domain_worse_p_adjusted: float
    domain_categories: dict[str, PairedChange]
    general: MarginTest
    categories: dict[str, MarginTest]


@dataclass(frozen=True)
class Verdict:
    """The outcome, the sentence that says why, and every figure it rests on."""

    outcome: Outcome
    reason: str
    evidence: list[str]


def compare(
    before: Scored, after: Scored, *, margin: float, category_margin: float, significance: float
) -> Comparison:
    """Pair two models item by item.

    Raises UserError rather than compare what cannot be compared: different items, items twice or without an answer,
    scores that are no number from 0 to 1, no domain or no general items, or a category with fewer than 30 items.
    """
    _require_pairs(before, after)
    clusters = np.unique(before.clusters, return_inverse=True)[1]

    def change(chosen: Array) -> PairedChange:
        return paired_change(
            before.scores[chosen], after.scores[chosen], clusters[chosen], significance
        )

    def by_category(group: str) -> dict[str, PairedChange]:
        inside = before.groups == group
        names = sorted(set(before.categories[inside].tolist()))
        return {name: change(inside & (before.categories == name)) for name in names}

    domain, general = change(before.groups == "domain"), change(before.groups == "general")
    categories = by_category("general")
    worse = holm([one.worse_p for one in categories.values()])
    return Comparison(
        domain=domain,
        domain_worse_p_adjusted=min(1.0, QUESTIONS * domain.worse_p),
        domain_categories=by_category("domain"),
        general=_margin_test(general, margin, general.worse_p, significance),
        categories={
            name: _margin_test(one, category_margin, float(p), significance)
            for (name, one), p in zip(categories.items(), worse, strict=True)
        },
    )


def judge(comparison: Comparison, critical_lost: Sequence[str], *, significance: float) -> Verdict:
    """SHIP, HOLD or INCONCLUSIVE.

    HOLD: something is shown to be worse: a critical behaviour, the domain, or general ability, as a whole or in a
    category, whose loss is not shown to be smaller than its margin. Domain, whole and categories share the level
    evenly (Bonferroni), categories by Holm's procedure: a model that lost nothing is held in at most `significance`.

    SHIP: the domain is better, and general ability is non-inferior as a whole and in every category; all of these
    must succeed, so each is tested at the full level: an intersection-union test (Berger 1982).

    INCONCLUSIVE: neither is shown; the reason names how many items would settle it.
    """
    tests = {"general ability": comparison.general, **comparison.categories}
    shown = f"p = {comparison.domain.better_p:.3g} against not better"
    evidence = [_line("domain", comparison.domain, shown, comparison.domain_worse_p_adjusted)]
    evidence += [_margin_line(name, test, significance) for name, test in tests.items()]
    evidence += [f"critical behaviour lost: {name}" for name in critical_lost]
    harms = [f"the critical behaviour {name} was lost" for name in critical_lost]
    if comparison.domain_worse_p_adjusted <= significance:
        harms.append(f"the domain became worse by {_points(-comparison.domain.difference)}")
    harms += [
        f"{name} became worse by {_points(-test.change.difference)}, "
        f"and the loss may reach {_points(-test.change.interval[0])}"
        for name, test in tests.items()
        if test.harmful(significance)
    ]
    if harms:
        return Verdict("HOLD", _sentence(harms), evidence)
    open_questions = _domain_question(comparison.domain, significance) + [
        f"{name} is not shown to have lost less than {_points(test.margin)} ("
        f"{_to_settle(test, significance, QUESTIONS * (1 if test is comparison.general else len(tests) - 1))})"
        for name, test in tests.items()
        if not test.acceptable(significance)
    ]
    if open_questions:
        return Verdict("INCONCLUSIVE", _sentence(open_questions), evidence)
    category_margin = max(test.margin for test in comparison.categories.values())
    reason = (
        f"the domain became better by {_points(comparison.domain.difference)}, and any loss of general ability is "
        f"shown to be smaller than {_points(comparison.general.margin)} as a whole and {_points(category_margin)} in "
        f"each of {len(comparison.categories)} categories"
    )
    return Verdict("SHIP", _sentence([reason]), evidence)


def _require_pairs(before: Scored, after: Scored) -> None:
    for side, scored in (("before", before), ("after", after)):
        if len(scored.scores) == 0 or len(scored.scores) != len(scored.ids):
            raise UserError(
                f"the model {side} gave {len(scored.scores)} answers to {len(scored.ids)} items"
            )
        ids, counts = np.unique(scored.ids, return_counts=True)
        if (counts > 1).any():
            raise UserError(
                f"item {str(ids[counts > 1][0])!r} occurs {counts.max()} times; every item must count once"
            )
        if (wrong := ~((scored.scores >= 0) & (scored.scores <= 1))).any():  # true of NaN
            item, score = str(scored.ids[wrong][0]), scored.scores[wrong][0]
            raise UserError(
                f"item {item!r} has the score {score} in the model {side}; expected 0 to 1"
            )
    if not np.array_equal(before.ids, after.ids):
        odd = sorted(set(before.ids.tolist()) ^ set(after.ids.tolist()))
        raise UserError(
            f"both models must answer the same items, sorted by id; {len(odd)} have one answer: {odd[:3]}"
        )
    for group in ("domain", "general"):
        inside = before.groups == group
        if not inside.any():
            raise UserError(
                f"there are no items of group `{group}`: the verdict needs both domain and general items"
            )
        names, counts = np.unique(before.categories[inside], return_counts=True)
        if (counts < MIN_ITEMS).any():
            few = str(names[counts.argmin()])
            raise UserError(
                f"category {few!r} has {counts.min()} items; at least {MIN_ITEMS} are needed"
            )


def _margin_test(
    change: PairedChange, margin: float, worse_p: float, significance: float
) -> MarginTest:
    return MarginTest(
        change=change,
        margin=margin,
        noninferiority_p=noninferiority_p(change, margin),
        worse_p_adjusted=min(1.0, QUESTIONS * worse_p),
        minimum_detectable_effect=minimum_detectable_effect(change, significance),
        items_needed=items_needed(change, margin, significance),
    )


def _domain_question(domain: PairedChange, significance: float) -> list[str]:
    if domain.better_p <= significance:
        return []
    seen = f"{domain.n:,} items show gains from {_points(minimum_detectable_effect(domain, significance))} upwards"
    if domain.difference > 0:
        needed = items_needed(domain, domain.difference, significance)
        seen = f"a true gain of this size needs about {needed:,} items, there are {domain.n:,}"
    return [
        f"the domain is not shown to be better ({_points(domain.difference, sign=True)}; {seen})"
    ]


def _line(name: str, change: PairedChange, shown: str, worse_p_adjusted: float) -> str:
    low, high = change.interval
    return (
        f"{name}: {_points(change.difference, sign=True)} [{low * 100:+.1f}, {high * 100:+.1f}] on {change.n:,} items, "
        f"{change.lost} lost, {change.gained} gained, {shown}, p = {worse_p_adjusted:.3g} (adjusted) against not worse"
    )


def _margin_line(name: str, test: MarginTest, significance: float) -> str:
    outcome = "shown to be within" if test.acceptable(significance) else "not shown to be within"
    shown = f"{outcome} the margin of {_points(test.margin)} (p = {test.noninferiority_p:.3g})"
    return _line(name, test.change, shown, test.worse_p_adjusted)


def _to_settle(test: MarginTest, significance: float, family: int) -> str:
    """How many items would show the loss acceptable or harmful, whichever takes fewer, if it is as large as seen."""
    change, loss = test.change, max(0.0, -test.change.difference)
    needed = []
    if loss < test.margin:
        needed.append(items_needed(change, test.margin - loss, significance))
    if loss > 0:
        needed.append(items_needed(change, loss, significance / family))
    return (
        f"{_points(change.difference, sign=True)} on {change.n:,} items; "
        f"about {max(min(needed), change.n + 1):,} would settle a change of that size"
    )


def _points(share: float, *, sign: bool = False) -> str:
    return f"{share * 100:{'+' if sign else ''}.1f} points"


def _sentence(parts: Sequence[str]) -> str:
    more = (
        [f"and {len(parts) - MAX_REASONS} more like it, among the evidence"]
        if len(parts) > MAX_REASONS
        else []
    )
    text = "; ".join([*parts[:MAX_REASONS], *more])
    return f"{text[0].upper()}{text[1:]}."
