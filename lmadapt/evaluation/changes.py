"""Paired changes of scores, as the verdict takes them and as figures."""

import numpy as np

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import ABILITIES, Exam
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.verdict import figures
from lmadapt.verdict.decision import Comparison, MarginTest, Scored, compare
from lmadapt.verdict.statistics import Array, PairedChange


def scored(exam: Exam, answers: Answers) -> Scored:
    """The items of domain and general ability with their scores, for `compare`."""
    places = [place for place, item in enumerate(exam.items) if item["group"] in ABILITIES]
    items = [exam.items[place] for place in places]
    return Scored(
        ids=np.array([item["id"] for item in items], dtype=str),
        groups=np.array([item["group"] for item in items], dtype=str),
        categories=np.array([item["category"] for item in items], dtype=str),
        clusters=exam.clusters[places],
        scores=answers.scores[places],
    )


def compare_scores(before: Scored, after: Scored, settings: EvaluationSettings) -> Comparison:
    """Compare two models under the margins and the level of `settings`.

    Raises UserError as `lmadapt.verdict.decision.compare` does.
    """
    return compare(
        before,
        after,
        margin=settings.margin,
        category_margin=settings.category_margin,
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


def domain_figures(change: PairedChange, worse_p_adjusted: float) -> figures.DomainChange:
    """The change of the domain as it is in metrics/evaluate.json."""
    plain = change_figures(change).model_dump()
    return figures.DomainChange(**plain, worse_p_adjusted=worse_p_adjusted)


def margin_figures(test: MarginTest) -> figures.MarginTest:
    """A test against a margin as it is in metrics/evaluate.json."""
    return figures.MarginTest(
        **change_figures(test.change).model_dump(),
        worse_p_adjusted=test.worse_p_adjusted,
        margin=test.margin,
        noninferiority_p=test.noninferiority_p,
        minimum_detectable_effect=test.minimum_detectable_effect,
        items_needed=test.items_needed,
    )
