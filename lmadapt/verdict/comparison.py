"""Compares two models item by item: every change, and the tests against harm and margins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.verdict.graded_scores import translated_margin
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
Score = Literal["graded", "accuracy"]

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
    # 0.0 to 1.0, the probability of the right choice; of a free answer its score. None: not known.
    graded: Array | None = None
    temperature: float | None = None  # of `graded`; scores at two temperatures are not compared


@dataclass(frozen=True)
class GradedTest:
    """A change of graded scores, which decides where both models have them."""

    change: PairedChange
    worse_p_adjusted: float
    margin: float | None = None  # in graded scores; None where there is none on the reference
    noninferiority_p: float | None = None


@dataclass(frozen=True)
class HarmTest:
    """A change, tested for harm; a category of the domain, which has no margin."""

    change: PairedChange  # of right and wrong answers
    worse_p_adjusted: float  # against "not worse"; compare it with the level of the verdict
    graded: GradedTest | None

    def shown_worse(self, significance: float) -> bool:
        """Whether a loss is shown in either score."""
        graded = self.graded.worse_p_adjusted if self.graded else 1.0
        return min(self.worse_p_adjusted, graded) <= significance


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
        translated = self.graded is None or self.graded.margin is not None
        return translated and self.reference_low > self.chance + self.margin

    @property
    def decisive(self) -> tuple[PairedChange, float]:
        """The change that decides, and the margin in its unit."""
        if self.graded and self.graded.margin:
            return self.graded.change, self.graded.margin
        return self.change, self.margin

    def within_margin(self, significance: float) -> bool:
        """Whether any loss is shown to be smaller than the margin, in the score that decides."""
        if self.graded is None:
            return self.noninferiority_p <= significance
        p = self.graded.noninferiority_p
        return p is not None and p <= significance

    def acceptable(self, significance: float) -> bool:
        """Whether that is shown by items that could have shown a loss."""
        return self.measurable and self.within_margin(significance)

    def harmful(self, significance: float) -> bool:
        """Whether a loss is shown in a score, and not shown in it to be smaller than the margin."""
        in_graded = self.graded.worse_p_adjusted if self.graded else 1.0
        if in_graded <= significance and not self.acceptable(significance):
            return True
        kept = self.measurable and self.noninferiority_p <= significance
        return self.worse_p_adjusted <= significance and not kept


@dataclass(frozen=True)
class Comparison:
    """How the scores of one model differ from those of an earlier one on the same items."""

    domain: PairedChange  # of right and wrong answers
    domain_worse_p_adjusted: float
    domain_graded: GradedTest | None  # its `margin` is the smallest gain in graded scores
    min_domain_gain: float
    domain_gain_p: float  # against "the domain gained `min_domain_gain` or less"; in what decides
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
    score: Score = "graded",
    at_any_look: bool = False,
) -> Comparison:
    """Compare two models item by item.

    With `score` graded, and graded scores of both models at one temperature, gains and margins are
    tested in these, with margins translated to them on the earlier model; right and wrong answers
    are then a second test for harm.

    `margin` and `category_margin`: the accepted loss of general ability and of one of its
    categories; `min_domain_gain`: the domain gain that must be exceeded. All are shares of 1, of
    the score or of the score beyond guessing, (score - chance) / (1 - chance), by `margin_scale`.
    `significance`: the level of the verdict. `not_measured`: general categories in which the
    earlier model may be too close to guessing to show a loss. With `at_any_look`, the tests hold
    however often one looks while items are added.
    Raises UserError when the models cannot be compared: different items, an item twice or without
    an answer, a score outside 0 to 1, no domain or no general items, a category with fewer than 30
    items, or a name in `not_measured` that is no general category.
    """
    _require_pairs(before, after)
    _require_categories(before, not_measured)
    pair = _Pair(before, after, significance, margin_scale, score, at_any_look)
    in_domain, in_general = before.groups == "domain", before.groups == "general"
    domain, general = (
        pair.harm_tests({name: chosen})[name]
        for name, chosen in (("domain", in_domain), ("general", in_general))
    )
    domain, least = pair.with_least_gain(domain, in_domain, min_domain_gain)
    deciding, own_least = domain.change, least
    if domain.graded and domain.graded.margin is not None:
        deciding, own_least = domain.graded.change, domain.graded.margin
    places = _by_category(before, in_general)
    return Comparison(
        domain=domain.change,
        domain_worse_p_adjusted=domain.worse_p_adjusted,
        domain_graded=domain.graded,
        min_domain_gain=least,
        domain_gain_p=superiority_p(deciding, own_least),
        domain_categories=pair.harm_tests(_by_category(before, in_domain)),
        general=pair.margin_test(general, in_general, margin),
        categories={
            name: pair.margin_test(test, places[name], category_margin)
            for name, test in pair.harm_tests(places).items()
        },
        not_measured=frozenset(not_measured),
    )


@dataclass(frozen=True)
class _Pair:
    """Two models' answers, and how they are compared; `chosen` are items, (n,) bool."""

    before: Scored
    after: Scored
    significance: float
    margin_scale: MarginScale
    score: Score
    at_any_look: bool

    @cached_property
    def clusters(self) -> Array:
        return np.unique(self.before.clusters, return_inverse=True)[1]

    @cached_property
    def scores(self) -> list[tuple[Array, Array]]:
        """Right and wrong answers of both models; then their graded scores, if these decide."""
        found = [(self.before.scores, self.after.scores)]
        before, after = self.before.graded, self.after.graded
        one_scale = self.before.temperature == self.after.temperature
        if self.score == "graded" and before is not None and after is not None and one_scale:
            found.append((before, after))
        return found

    def reference(self, chosen: Array) -> dict[str, float]:
        """Mean scores of the earlier model, and what guessing scores."""
        chances = self.before.chances
        return {
            "accuracy": float(self.scores[0][0][chosen].mean()),
            "graded": float(self.scores[-1][0][chosen].mean()),
            "chance": 0.0 if chances is None else float(chances[chosen].mean()),
        }

    def in_units_of_score(self, share: float, chosen: Array) -> float:
        if self.margin_scale == "accuracy":
            return share
        return share * (1 - self.reference(chosen)["chance"])

    def harm_tests(self, family: dict[str, Array]) -> dict[str, HarmTest]:
        """A family of tests, any number of which may show a loss (Holm): by name."""
        changes = [
            paired_change(
                before[chosen],
                after[chosen],
                self.clusters[chosen],
                self.significance,
                graded=place > 0,
                at_any_look=self.at_any_look,
            )
            for place, (before, after) in enumerate(self.scores)
            for chosen in family.values()
        ]
        adjusted = [shared(float(p)) for p in holm([change.worse_p for change in changes])]
        count = len(family)
        graded: list[GradedTest | None] = [None] * count
        if len(changes) > count:
            graded = list(map(GradedTest, changes[count:], adjusted[count:]))
        tests = map(HarmTest, changes, adjusted, graded)
        return dict(zip(family, tests, strict=True))

    def with_least_gain(
        self, domain: HarmTest, chosen: Array, least: float
    ) -> tuple[HarmTest, float]:
        """The domain with the smallest gain in graded scores, and that gain in accuracy.

        The former is None where the earlier model only guesses.
        """
        least = self.in_units_of_score(least, chosen)
        if not domain.graded:
            return domain, least
        translated = translated_margin(least, **self.reference(chosen)) if least else 0.0
        return replace(domain, graded=replace(domain.graded, margin=translated)), least

    def margin_test(self, test: HarmTest, chosen: Array, share: float) -> MarginTest:
        reference, margin = self.reference(chosen), self.in_units_of_score(share, chosen)
        graded, change, own = test.graded, test.change, margin
        if graded:
            translated = translated_margin(margin, **reference)
            p = None if translated is None else noninferiority_p(graded.change, translated)
            graded = replace(graded, margin=translated, noninferiority_p=p)
            if translated:
                change, own = graded.change, translated
        detectable = minimum_detectable_effect(change, self.significance)
        scores, clusters = self.before.scores[chosen], self.clusters[chosen]
        return MarginTest(
            change=test.change,
            worse_p_adjusted=test.worse_p_adjusted,
            graded=graded,
            margin=margin,
            noninferiority_p=noninferiority_p(test.change, margin),
            minimum_detectable_effect=detectable * margin / own,
            items_needed=items_needed(change, own, self.significance),
            reference=reference["accuracy"],
            reference_low=accuracy_interval(scores, clusters, self.significance)[0],
            chance=reference["chance"],
        )


def _by_category(model: Scored, inside: Array) -> dict[str, Array]:
    """By category, sorted: which of the items `inside` are in it, (n,) bool."""
    names = sorted(set(model.categories[inside].tolist()))
    return {name: inside & (model.categories == name) for name in names}


def shared(worse_p: float) -> float:
    """The p-value of a family, adjusted for the other questions of the verdict (Bonferroni)."""
    return min(1.0, QUESTIONS * worse_p)


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
