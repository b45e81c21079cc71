"""Compares two models item by item: every change, and the tests against harm and margins."""

from dataclasses import dataclass

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

# Of a category. Fewer show next to nothing: 30 items of which none changed show a loss below 9
# points at best.
MIN_ITEMS = 30
# What shares the level of "shown worse" evenly: the domain, its categories, general ability, and
# its categories.
QUESTIONS = 4


@dataclass(frozen=True)
class Scored:
    """Items and the scores of one model; arrays of equal length with one entry an item."""

    ids: Array
    groups: Array  # domain | general; other groups are not judged
    categories: Array
    clusters: Array  # the entity of each item; items of one entity are correlated
    scores: Array  # 0.0 to 1.0; most items are either wrong (0.0) or right (1.0)


@dataclass(frozen=True)
class HarmTest:
    """A change, tested for harm; a category of the domain, which has no margin."""

    change: PairedChange
    worse_p_adjusted: float  # against "not worse"; compare it with the level of the verdict


@dataclass(frozen=True)
class MarginTest(HarmTest):
    """A change of general ability, tested for harm and against its margin."""

    margin: float
    noninferiority_p: float  # against "the score fell by the margin or more"
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
    domain_categories: dict[str, HarmTest]
    general: MarginTest
    categories: dict[str, MarginTest]


def compare(
    before: Scored, after: Scored, *, margin: float, category_margin: float, significance: float
) -> Comparison:
    """Compare two models item by item.

    `margin` and `category_margin`: the accepted loss of general ability and of one of its
    categories, as shares of 1; `significance`: the level of the verdict.
    Raises UserError when the models cannot be compared: different items, an item twice or without
    an answer, a score outside 0 to 1, no domain or no general items, or a category with fewer than
    30 items.
    """
    _require_pairs(before, after)
    clusters = np.unique(before.clusters, return_inverse=True)[1]

    def change(chosen: Array) -> PairedChange:
        return paired_change(
            before.scores[chosen], after.scores[chosen], clusters[chosen], significance
        )

    def by_category(group: str) -> dict[str, HarmTest]:
        inside = before.groups == group
        names = sorted(set(before.categories[inside].tolist()))
        return _harm_tests({name: change(inside & (before.categories == name)) for name in names})

    domain, general = change(before.groups == "domain"), change(before.groups == "general")
    whole = HarmTest(general, _shared(general.worse_p))
    return Comparison(
        domain=domain,
        domain_worse_p_adjusted=_shared(domain.worse_p),
        domain_categories=by_category("domain"),
        general=_margin_test(whole, margin, significance),
        categories={
            name: _margin_test(test, category_margin, significance)
            for name, test in by_category("general").items()
        },
    )


def _harm_tests(changes: dict[str, PairedChange]) -> dict[str, HarmTest]:
    """One family of categories, in which any number may be worse (Holm)."""
    worse = holm([change.worse_p for change in changes.values()])
    return {
        name: HarmTest(change, _shared(float(p)))
        for (name, change), p in zip(changes.items(), worse, strict=True)
    }


def _shared(worse_p: float) -> float:
    """The p-value of a family, adjusted for the other questions of the verdict (Bonferroni)."""
    return min(1.0, QUESTIONS * worse_p)


def _margin_test(test: HarmTest, margin: float, significance: float) -> MarginTest:
    return MarginTest(
        **vars(test),
        margin=margin,
        noninferiority_p=noninferiority_p(test.change, margin),
        minimum_detectable_effect=minimum_detectable_effect(test.change, significance),
        items_needed=items_needed(test.change, margin, significance),
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
