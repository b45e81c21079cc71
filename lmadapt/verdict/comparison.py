"""Compares two models item by item: every change, and the tests against harm and margins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.verdict.statistics import (
    Array,
    PairedChange,
    accuracy_interval,
    holm,
    items_needed,
    minimum_detectable_effect,
    noninferiority_p,
    paired_change,
    superiority_p,
)

MarginScale = Literal["accuracy", "chance_adjusted"]

# Of a category. Fewer show next to nothing: 30 items of which none changed show a loss below 9
# points at best.
MIN_ITEMS = 30
# What shares the level of "shown worse" evenly: the domain, its categories, general ability, its
# categories, bits per byte, divergence, free answers, and major behaviours.
QUESTIONS = 8


@dataclass(frozen=True)
class Scored:
    """Items and the scores of one model; arrays of equal length with one entry an item."""

    ids: Array
    groups: Array  # domain | general; other groups are not judged
    categories: Array
    clusters: Array  # the entity of each item; items of one entity are correlated
    scores: Array  # 0.0 to 1.0; most items are either wrong (0.0) or right (1.0)
    chances: Array | None = None  # what guessing scores on each item; None: 0 on all of them


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
    reference: float  # mean score of the earlier model
    reference_low: float  # lower end of its interval
    chance: float  # what guessing scores

    @property
    def measurable(self) -> bool:
        """Whether the earlier model is shown to be above chance by more than the margin.

        Otherwise it cannot lose as much as the margin, and "within the margin" says nothing: the
        test has no assay sensitivity (ICH E10, 2000).
        """
        return self.reference_low > self.chance + self.margin

    def within_margin(self, significance: float) -> bool:
        """Whether any loss is shown to be smaller than the margin."""
        return self.noninferiority_p <= significance

    def acceptable(self, significance: float) -> bool:
        """Whether that is shown by items that could have shown a loss."""
        return self.measurable and self.within_margin(significance)

    def harmful(self, significance: float) -> bool:
        """Whether a loss is shown, but not shown to be smaller than the margin."""
        return self.worse_p_adjusted <= significance and not self.acceptable(significance)


@dataclass(frozen=True)
class Comparison:
    """How the scores of one model differ from those of an earlier one on the same items."""

    domain: PairedChange
    domain_worse_p_adjusted: float
    min_domain_gain: float
    domain_gain_p: float  # against "the domain gained `min_domain_gain` or less"
    domain_categories: dict[str, HarmTest]
    general: MarginTest
    categories: dict[str, MarginTest]
    not_measured: frozenset[str]  # general categories that may lack `measurable`


def compare(
    before: Scored,
    after: Scored,
    *,
    margin: float,
    category_margin: float,
    significance: float,
    margin_scale: MarginScale = "accuracy",
    min_domain_gain: float = 0.0,
    not_measured: Sequence[str] = (),
) -> Comparison:
    """Compare two models item by item.

    `margin` and `category_margin`: the accepted loss of general ability and of one of its
    categories; `min_domain_gain`: the domain gain that must be exceeded. All are shares of 1, of
    the score or of the score beyond guessing, (score - chance) / (1 - chance), by `margin_scale`.
    `significance`: the level of the verdict. `not_measured`: general categories in which the
    earlier model may be too close to guessing to show a loss.
    Raises UserError when the models cannot be compared: different items, an item twice or without
    an answer, a score outside 0 to 1, no domain or no general items, a category with fewer than 30
    items, or a name in `not_measured` that is no general category.
    """
    _require_pairs(before, after)
    _require_categories(before, not_measured)
    clusters = np.unique(before.clusters, return_inverse=True)[1]
    chances = np.zeros(len(before.ids)) if before.chances is None else before.chances

    def change(chosen: Array) -> PairedChange:
        return paired_change(
            before.scores[chosen], after.scores[chosen], clusters[chosen], significance
        )

    def in_units_of_score(share: float, chosen: Array) -> float:
        if margin_scale == "accuracy":
            return share
        return share * (1 - float(chances[chosen].mean()))

    def margin_test(test: HarmTest, chosen: Array, share: float) -> MarginTest:
        reference = before.scores[chosen]
        return _margin_test(
            test,
            in_units_of_score(share, chosen),
            significance,
            reference=float(reference.mean()),
            reference_low=accuracy_interval(reference, clusters[chosen], significance)[0],
            chance=float(chances[chosen].mean()),
        )

    in_domain, in_general = before.groups == "domain", before.groups == "general"
    categories = {
        group: _by_category(before, inside)
        for group, inside in (("domain", in_domain), ("general", in_general))
    }
    tests = {
        group: _harm_tests({name: change(chosen) for name, chosen in named.items()})
        for group, named in categories.items()
    }
    domain, general = change(in_domain), change(in_general)
    least = in_units_of_score(min_domain_gain, in_domain)
    return Comparison(
        domain=domain,
        domain_worse_p_adjusted=shared(domain.worse_p),
        min_domain_gain=least,
        domain_gain_p=superiority_p(domain, least),
        domain_categories=tests["domain"],
        general=margin_test(HarmTest(general, shared(general.worse_p)), in_general, margin),
        categories={
            name: margin_test(tests["general"][name], chosen, category_margin)
            for name, chosen in categories["general"].items()
        },
        not_measured=frozenset(not_measured),
    )


def _by_category(model: Scored, inside: Array) -> dict[str, Array]:
    """By category, sorted: which of the items `inside` are in it, (n,) bool."""
    names = sorted(set(model.categories[inside].tolist()))
    return {name: inside & (model.categories == name) for name in names}


def _harm_tests(changes: dict[str, PairedChange]) -> dict[str, HarmTest]:
    """One family of categories, in which any number may be worse (Holm)."""
    worse = holm([change.worse_p for change in changes.values()])
    return {
        name: HarmTest(change, shared(float(p)))
        for (name, change), p in zip(changes.items(), worse, strict=True)
    }


def shared(worse_p: float) -> float:
    """The p-value of a family, adjusted for the other questions of the verdict (Bonferroni)."""
    return min(1.0, QUESTIONS * worse_p)


def _margin_test(
    test: HarmTest, margin: float, significance: float, **reference: float
) -> MarginTest:
    return MarginTest(
        **vars(test),
        **reference,
        margin=margin,
        noninferiority_p=noninferiority_p(test.change, margin),
        minimum_detectable_effect=minimum_detectable_effect(test.change, significance),
        items_needed=items_needed(test.change, margin, significance),
    )


def _require_categories(model: Scored, not_measured: Sequence[str]) -> None:
    known = sorted(set(model.categories[model.groups == "general"].tolist()))
    for name in not_measured:
        if name not in known:
            raise UserError(
                f"evaluate.not_measured names {name!r}, which is no general category; the exam "
                f"has {', '.join(map(str, known))}"
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
