"""Paired changes of scores, as the verdict takes them and as figures."""

from typing import cast

import numpy as np

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import ABILITIES, Exam
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.verdict import figures
from lmadapt.verdict.comparison import (
    Comparison,
    GradedTest,
    HarmTest,
    MarginTest,
    Scored,
    compare,
)
from lmadapt.verdict.graded_scores import fit_temperature, graded_scores
from lmadapt.verdict.statistics import Array, PairedChange


def temperature_of(exam: Exam, reference: Answers) -> float | None:
    """The temperature of graded scores, fitted on the reference; None without choices."""
    places = _choice_places(exam)
    if not places:
        return None
    return fit_temperature(*_choices(exam, reference, places))


def scored(exam: Exam, answers: Answers, temperature: float | None = None) -> Scored:
    """The items of domain and general ability with their scores, for `compare`.

    Graded scores are at the `temperature` of the exam; without it there are none.
    """
    places = [place for place, item in enumerate(exam.items) if item["group"] in ABILITIES]
    items = [exam.items[place] for place in places]
    return Scored(
        ids=np.array([item["id"] for item in items], dtype=str),
        groups=np.array([item["group"] for item in items], dtype=str),
        categories=np.array([item["category"] for item in items], dtype=str),
        clusters=exam.clusters[places],
        scores=answers.scores[places],
        chances=np.array([1 / count if (count := len(item["choices"])) else 0.0 for item in items]),
        graded=None if temperature is None else graded_of(exam, answers, temperature)[places],
        temperature=temperature,
    )


def graded_of(exam: Exam, answers: Answers, temperature: float) -> Array:
    """The graded score of each item of the exam, (n,).

    That is the probability of the right choice, and the score itself where there is none.
    """
    found = np.array(answers.scores, float)
    places = _choice_places(exam)
    found[places] = graded_scores(*_choices(exam, answers, places), temperature)
    return found


def _choice_places(exam: Exam) -> list[int]:
    """Items with a right choice, whose log-likelihoods are known."""
    return [
        place
        for place, item in enumerate(exam.items)
        if item["group"] in ABILITIES and item["choices"] and item["answer"] is not None
    ]


def _choices(
    exam: Exam, answers: Answers, places: list[int]
) -> tuple[list[list[float]], list[list[int]], list[int]]:
    """Log-likelihoods in nats, sizes in bytes, and right choices."""
    items = [exam.items[place] for place in places]
    sizes = [[len(choice.encode()) for choice in item["choices"]] for item in items]
    return (
        [answers.log_likelihoods[place] for place in places],
        sizes,
        [cast(int, item["answer"]) for item in items],
    )


def compare_scores(before: Scored, after: Scored, settings: EvaluationSettings) -> Comparison:
    """Compare two models under the margins and the level of `settings`.

    Raises UserError as `lmadapt.verdict.comparison.compare` does.
    """
    return compare(
        before,
        after,
        margin=settings.margin,
        category_margin=settings.category_margin,
        margin_scale=settings.margin_scale,
        min_domain_gain=settings.min_domain_gain,
        not_measured=settings.not_measured,
        score=settings.score,
        significance=settings.significance,
        at_any_look=settings.at_any_look,
    )


def items_by_category(items: Scored, group: str) -> dict[str, Array]:
    """By category of the group, sorted: which items are in it, (n,) bool."""
    inside = items.groups == group
    return {
        name: inside & (items.categories == name)
        for name in sorted(set(items.categories[inside].tolist()))
    }


def change_figures(change: PairedChange) -> figures.Change:
    """A paired change as it is in metrics/evaluate.json."""
    return figures.Change(
        difference=change.difference,
        interval=change.interval,
        n=change.n,
        clusters=change.clusters,
        lost=change.lost,
        gained=change.gained,
        mcnemar_p=change.mcnemar_p,
        better_p=change.better_p,
        worse_p=change.worse_p,
    )


def domain_figures(compared: Comparison) -> figures.DomainTest:
    """The change of the domain as it is in metrics/evaluate.json."""
    whole = HarmTest(compared.domain, compared.domain_worse_p_adjusted, compared.domain_graded)
    return figures.DomainTest(
        **harm_figures(whole).model_dump(),
        min_gain=compared.min_domain_gain,
        gain_p=compared.domain_gain_p,
    )


def harm_figures(test: HarmTest) -> figures.DomainChange:
    """The change of a category of the domain as it is in metrics/evaluate.json."""
    return figures.DomainChange(
        **change_figures(test.change).model_dump(),
        worse_p_adjusted=test.worse_p_adjusted,
        graded=_graded_figures(test.graded) if test.graded else None,
    )


def _graded_figures(test: GradedTest) -> figures.GradedChange:
    return figures.GradedChange(
        difference=test.change.difference,
        interval=test.change.interval,
        margin=test.margin,
        noninferiority_p=test.noninferiority_p,
        better_p=test.change.better_p,
        worse_p=test.change.worse_p,
        worse_p_adjusted=test.worse_p_adjusted,
    )


def margin_figures(test: MarginTest) -> figures.MarginTest:
    """A test against a margin as it is in metrics/evaluate.json."""
    return figures.MarginTest(
        **harm_figures(test).model_dump(),
        margin=test.margin,
        noninferiority_p=test.noninferiority_p,
        minimum_detectable_effect=test.minimum_detectable_effect,
        items_needed=test.items_needed,
        measurable=test.measurable,
    )
