"""May the adapted model be shipped? A pure function of paired results; docs/verdict.md explains it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmadapt.errors import UserError
from lmadapt.statistics import (
    Array,
    PairedChange,
    holm,
    items_needed,
    minimum_detectable_effect,
    noninferiority_p,
    paired_change,
)

Outcome = Literal["SHIP", "HOLD", "INCONCLUSIVE"]

MIN_ITEMS = 30  # a category with fewer says next to nothing: with none changed, its margin is 0.09 at best
MAX_REASONS = 3  # in the sentence; all stand in the evidence
QUESTIONS = 3  # domain, general as a whole, its categories: the level of "shown worse" is shared between them


@dataclass(frozen=True)
class Scored:
    """Multiple-choice items as one model answered them; arrays of equal length, one entry an item."""

    ids: Array
    groups: Array  # domain | general
    categories: Array
    clusters: Array  # items of one cluster are correlated
    scores: Array  # from 0 to 1


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


def compare(before: Scored, after: Scored, *, margin: float, category_margin: float, significance: float) -> Comparison:
    """Pair two models item by item.

    Raises UserError rather than compare what cannot be compared: different items, items twice, scores that are no
    number, no domain or no general items, or a category with fewer than 30 items.
    """
    _require_pairs(before, after)
    clusters = np.unique(before.clusters, return_inverse=True)[1]

    def change(chosen: Array) -> PairedChange:
        return paired_change(before.scores[chosen], after.scores[chosen], clusters[chosen], significance)

    def by_category(group: str) -> dict[str, PairedChange]:
        inside = before.groups == group
        names = sorted(set(before.categories[inside].tolist()))
        return {name: change(inside & (before.categories == name)) for name in names}

    domain, general, categories = (
        change(before.groups == "domain"),
        change(before.groups == "general"),
        by_category("general"),
    )
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

    HOLD: something is shown to be worse. A critical behaviour check is lost; or the domain is worse; or general
    ability, as a whole or in a category, is worse and the loss is not shown to be smaller than its margin. The
    level is shared evenly between domain, whole and categories (Bonferroni), and among categories by Holm's
    procedure, so that a model that lost nothing is held back with a probability of at most `significance`.

    SHIP: the domain is better, and general ability is non-inferior as a whole and in every category. Every one of
    these tests must succeed, so each is made at the full level: an intersection-union test (Berger 1982).

    INCONCLUSIVE: neither is shown; the reason names how many items would settle it.
    """
    tests = {"general ability": comparison.general, **comparison.categories}
    evidence = [_domain_line(comparison), *(_margin_line(name, test, significance) for name, test in tests.items())]
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
    families = [QUESTIONS] + [QUESTIONS * len(comparison.categories)] * len(comparison.categories)
    open_questions = _domain_question(comparison.domain, significance) + [
        f"{name} is not shown to have lost less than {_points(test.margin)} ({_to_settle(test, significance, family)})"
        for (name, test), family in zip(tests.items(), families, strict=True)
        if not test.acceptable(significance)
    ]
    if open_questions:
        return Verdict("INCONCLUSIVE", _sentence(open_questions), evidence)
    reason = (
        f"the domain became better by {_points(comparison.domain.difference)}, and any loss of general ability is "
        f"shown to be smaller than {_points(comparison.general.margin)} as a whole"
    )
    margins = {_points(test.margin) for test in comparison.categories.values()}
    return Verdict(
        "SHIP",
        _sentence([f"{reason} and {margins.pop()} in each of {len(comparison.categories)} categories"]),
        evidence,
    )


def _require_pairs(before: Scored, after: Scored) -> None:
    for scored in (before, after):
        ids, counts = np.unique(scored.ids, return_counts=True)
        if (counts > 1).any():
            raise UserError(f"item {str(ids[counts > 1][0])!r} occurs {counts.max()} times; every item must count once")
        if not np.isfinite(scored.scores).all():
            raise UserError(f"item {str(scored.ids[~np.isfinite(scored.scores)][0])!r} has no score; nothing is judged")
    if difference := set(before.ids.tolist()) ^ set(after.ids.tolist()):
        raise UserError(
            f"the models answered different items: {len(difference)} are on one side only, {min(difference)!r} first"
        )
    if not np.array_equal(before.ids, after.ids):
        raise UserError("the models answered the same items in different orders; sort both by id")
    for group in ("domain", "general"):
        inside = before.groups == group
        if not inside.any():
            raise UserError(f"there are no items of group `{group}`: the verdict needs both domain and general items")
        names, counts = np.unique(before.categories[inside], return_counts=True)
        if (counts < MIN_ITEMS).any():
            raise UserError(
                f"category {str(names[counts.argmin()])!r} has {counts.min()} items; at least {MIN_ITEMS} are needed"
            )


def _margin_test(change: PairedChange, margin: float, worse_p: float, significance: float) -> MarginTest:
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
    return [f"the domain is not shown to be better ({_points(domain.difference, sign=True)}; {seen})"]


def _domain_line(comparison: Comparison) -> str:
    domain = comparison.domain
    return (
        f"domain: {_change(domain)}, p = {domain.better_p:.3g} against not better, "
        f"p = {comparison.domain_worse_p_adjusted:.3g} (adjusted) against not worse"
    )


def _margin_line(name: str, test: MarginTest, significance: float) -> str:
    outcome = "shown to be within" if test.acceptable(significance) else "not shown to be within"
    return (
        f"{name}: {_change(test.change)}, {outcome} the margin of {_points(test.margin)} "
        f"(p = {test.noninferiority_p:.3g}), p = {test.worse_p_adjusted:.3g} (adjusted) against not worse"
    )


def _change(change: PairedChange) -> str:
    low, high = change.interval
    return (
        f"{_points(change.difference, sign=True)} [{low * 100:+.1f}, {high * 100:+.1f}] on {change.n:,} items, "
        f"{change.lost} lost, {change.gained} gained"
    )


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
    more = [f"and {len(parts) - MAX_REASONS} more like it, among the evidence"] if len(parts) > MAX_REASONS else []
    text = "; ".join([*parts[:MAX_REASONS], *more])
    return f"{text[0].upper()}{text[1:]}."
