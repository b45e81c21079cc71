"""Decides whether the adapted model may be shipped: a pure function of paired results.

docs/verdict.md explains the rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.verdict.figures import Outcome
from lmadapt.verdict.statistics import (
    Array,
    PairedChange,
    holm,
    items_needed,
    minimum_detectable_effect,
    noninferiority_p,
    paired_change,
)

# Of a category. Fewer show next to nothing: 30 items of which none changed show a loss below 9
# points at best.
MIN_ITEMS = 30
MAX_REASONS = 3  # in the reason; the evidence holds all of them
# The domain, general ability as a whole, and its categories share the level of "shown worse".
QUESTIONS = 3


@dataclass(frozen=True)
class Scored:
    """Items and the scores of one model; arrays of equal length with one entry an item."""

    ids: Array
    groups: Array  # domain | general; other groups are not judged
    categories: Array
    clusters: Array  # the entity of each item; items of one entity are correlated
    scores: Array  # 0.0 to 1.0; most items are either wrong (0.0) or right (1.0)


@dataclass(frozen=True)
class MarginTest:
    """A change of general ability, tested against its margin."""

    change: PairedChange
    margin: float
    noninferiority_p: float  # against "the score fell by the margin or more"
    worse_p_adjusted: float  # against "not worse"; compare it with the level of the verdict
    minimum_detectable_effect: float
    items_needed: int  # to show that less than the margin was lost, if nothing was lost

    def acceptable(self, significance: float) -> bool:
        """Whether any loss is shown to be smaller than the margin."""
        return self.noninferiority_p <= significance

    def harmful(self, significance: float) -> bool:
        """Whether a loss is shown, but not shown to be smaller than the margin."""
        return self.worse_p_adjusted <= significance and not self.acceptable(significance)


@dataclass(frozen=True)
class Comparison:
    """How the scores of one model differ from those of an earlier one on the same items."""

    domain: PairedChange
    domain_worse_p_adjusted: float
    domain_categories: dict[str, PairedChange]
    general: MarginTest
    categories: dict[str, MarginTest]


@dataclass(frozen=True)
class Verdict:
    """The outcome, one sentence that says why, and every figure behind it."""

    outcome: Outcome
    reason: str
    evidence: list[str]


def compare(
    before: Scored,
    after: Scored,
    *,
    margin: float,
    category_margin: float,
    significance: float,
    at_any_look: bool = False,
) -> Comparison:
    """Compare two models item by item.

    `margin` and `category_margin`: the accepted loss of general ability and of one of its
    categories, as shares of 1; `significance`: the level of the verdict. With `at_any_look`, the
    tests hold however often one looks while items are added.
    Raises UserError when the models cannot be compared: different items, an item twice or without
    an answer, a score outside 0 to 1, no domain or no general items, or a category with fewer than
    30 items.
    """
    _require_pairs(before, after)
    clusters = np.unique(before.clusters, return_inverse=True)[1]

    def change(chosen: Array) -> PairedChange:
        return paired_change(
            before.scores[chosen],
            after.scores[chosen],
            clusters[chosen],
            significance,
            at_any_look=at_any_look,
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

    HOLD: something is shown to be worse. This is a critical behaviour in `critical_lost`, the
    domain, or general ability (as a whole or in a category) whose loss is not shown to be smaller
    than its margin. Domain, whole and categories share the level evenly (Bonferroni), and the
    categories share theirs by Holm's procedure. So a model that lost nothing is held with a
    probability of at most `significance`.

    SHIP: the domain is shown to be better, and general ability to be non-inferior as a whole and in
    every category. All of these tests must succeed, so each has the full level: an
    intersection-union test (Berger 1982).

    INCONCLUSIVE: neither is shown. The reason says how many items would settle it.
    """
    harms = _harms(comparison, critical_lost, significance)
    evidence = _evidence(comparison, critical_lost, significance)
    if harms:
        return Verdict("HOLD", _sentence(harms), evidence)
    unsettled = _unsettled(comparison, significance)
    if unsettled:
        return Verdict("INCONCLUSIVE", _sentence(unsettled), evidence)
    return Verdict("SHIP", _sentence([_reason_to_ship(comparison)]), evidence)


def _tests(comparison: Comparison) -> dict[str, MarginTest]:
    return {"general ability": comparison.general, **comparison.categories}


def _evidence(
    comparison: Comparison, critical_lost: Sequence[str], significance: float
) -> list[str]:
    """One line for each question: the domain, general ability, its categories, lost behaviours."""
    domain = comparison.domain
    shown = f"p = {domain.better_p:.3g} against not better"
    return [
        _line("domain", domain, shown, comparison.domain_worse_p_adjusted),
        *(_margin_line(name, test, significance) for name, test in _tests(comparison).items()),
        *(f"critical behaviour lost: {name}" for name in critical_lost),
    ]


def _harms(comparison: Comparison, critical_lost: Sequence[str], significance: float) -> list[str]:
    """What is shown to be worse, as clauses."""
    harms = [f"the critical behaviour {name} was lost" for name in critical_lost]
    if comparison.domain_worse_p_adjusted <= significance:
        harms.append(f"the domain became worse by {_points(-comparison.domain.difference)}")
    harms += [
        f"{name} became worse by {_points(-test.change.difference)}, "
        f"and the loss may reach {_points(-test.change.interval[0])}"
        for name, test in _tests(comparison).items()
        if test.harmful(significance)
    ]
    return harms


def _unsettled(comparison: Comparison, significance: float) -> list[str]:
    """What is not shown to be good enough to ship, as clauses."""
    clauses = _domain_question(comparison.domain, significance)
    for name, test in _tests(comparison).items():
        if not test.acceptable(significance):
            family = QUESTIONS
            if test is not comparison.general:
                family *= len(comparison.categories)
            clauses.append(
                f"{name} is not shown to have lost less than {_points(test.margin)} "
                f"({_to_settle(test, significance, family)})"
            )
    return clauses


def _reason_to_ship(comparison: Comparison) -> str:
    category_margin = max(test.margin for test in comparison.categories.values())
    return (
        f"the domain became better by {_points(comparison.domain.difference)}, and any loss of "
        f"general ability is shown to be smaller than {_points(comparison.general.margin)} as a "
        f"whole and {_points(category_margin)} in each of {len(comparison.categories)} categories"
    )


def _require_pairs(before: Scored, after: Scored) -> None:
    _require_scores(before, "before")
    _require_scores(after, "after")
    if not np.array_equal(before.ids, after.ids):
        odd = sorted(set(before.ids.tolist()) ^ set(after.ids.tolist()))
        raise UserError(
            "both models must answer the same items, sorted by id; "
            f"{len(odd)} items have one answer: {odd[:3]}"
        )
    for group in ("domain", "general"):
        inside = before.groups == group
        if not inside.any():
            raise UserError(
                f"there are no items of group `{group}`: the verdict needs domain items and "
                "general items"
            )
        names, counts = np.unique(before.categories[inside], return_counts=True)
        if (counts < MIN_ITEMS).any():
            few = str(names[counts.argmin()])
            raise UserError(
                f"category {few!r} has {counts.min()} items; at least {MIN_ITEMS} are needed"
            )


def _require_scores(model: Scored, side: str) -> None:
    """Each item once, each with a score from 0 to 1."""
    answers, items = len(model.scores), len(model.ids)
    if answers == 0 or answers != items:
        raise UserError(f"the model {side} gave {answers} answers to {items} items")
    ids, counts = np.unique(model.ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(
            f"item {str(ids[counts > 1][0])!r} occurs {counts.max()} times; every item must occur "
            "once"
        )
    wrong = ~((model.scores >= 0) & (model.scores <= 1))  # true of NaN
    if wrong.any():
        item, score = str(model.ids[wrong][0]), model.scores[wrong][0]
        raise UserError(f"item {item!r} has the score {score} in the model {side}; allowed: 0 to 1")


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
    if domain.difference > 0:
        needed = items_needed(domain, domain.difference, significance)
        seen = f"a true gain of this size needs about {needed:,} items, there are {domain.n:,}"
    else:
        smallest = minimum_detectable_effect(domain, significance)
        seen = f"{domain.n:,} items show gains from {_points(smallest)} upwards"
    return [
        f"the domain is not shown to be better ({_points(domain.difference, sign=True)}; {seen})"
    ]


def _line(name: str, change: PairedChange, shown: str, worse_p_adjusted: float) -> str:
    low, high = change.interval
    return (
        f"{name}: {_points(change.difference, sign=True)} [{low * 100:+.1f}, {high * 100:+.1f}] "
        f"on {change.n:,} items, {change.lost} lost, {change.gained} gained, {shown}, "
        f"p = {worse_p_adjusted:.3g} (adjusted) against not worse"
    )


def _margin_line(name: str, test: MarginTest, significance: float) -> str:
    outcome = "shown to be within" if test.acceptable(significance) else "not shown to be within"
    shown = f"{outcome} the margin of {_points(test.margin)} (p = {test.noninferiority_p:.3g})"
    return _line(name, test.change, shown, test.worse_p_adjusted)


def _to_settle(test: MarginTest, significance: float, family: int) -> str:
    """How many items would show that a loss of the size seen is acceptable, or that it is harmful.

    The smaller of the two counts. `family`: how many tests share the level of "shown worse".
    """
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
    points = share * 100
    return f"{points:+.1f} points" if sign else f"{points:.1f} points"


def _sentence(parts: Sequence[str]) -> str:
    shown = list(parts[:MAX_REASONS])
    if len(parts) > MAX_REASONS:
        shown.append(f"and {len(parts) - MAX_REASONS} more like it, among the evidence")
    text = "; ".join(shown)
    return f"{text[0].upper()}{text[1:]}."
