"""How an exam would judge a model that lost nothing, before a model is trained.

Items, categories and clusters are the exam's own. The answers are drawn, and the verdict's own
`compare` and `judge` decide about them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike
from pydantic import ConfigDict, Field
from scipy.special import ndtri

from lmadapt.core.errors import UserError
from lmadapt.core.sections import Section
from lmadapt.verdict.decision import Comparison, Scored, compare, judge
from lmadapt.verdict.exam_size import Question, ask, exam_sizes, items_for
from lmadapt.verdict.power_figures import ExamPower, GrownExam, Outcomes, QuestionPower, Rate
from lmadapt.verdict.statistics import POWER, Array, wilson_interval

CHURNS = (0.02, 0.05, 0.1)  # shares of the items that change: half are lost, half are gained
GAIN = 0.05  # of the domain
DRAWS = 400  # the simulation's 95 % interval is then at most 5 points to each side
CORRELATION = 0.1  # of the changes of two items of a cluster, where none was measured
ACCURACY = 0.6  # of the reference; the size of changes does not depend on it
BEST_CASES = (0.0, 0.25, 0.5, 0.75, 0.9)  # accuracies of a reference that the model outdoes
LARGEST_EXAM = 100_000  # items; the sizes of a larger exam are not simulated
SCORE = "right or wrong"

Tick = Callable[[], None]


class ExamSettings(Section):
    """What decides about an exam in section `evaluate` of params.yaml; other keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    margin: float = Field(gt=0, lt=1)
    category_margin: float = Field(gt=0, lt=1)
    significance: float = Field(gt=0, lt=0.5)
    alpha_scale: float | Literal["auto"]


@dataclass(frozen=True)
class PlannedExam:
    """The items of domain and general ability; arrays with one entry an item."""

    groups: Array  # domain | general
    categories: Array
    clusters: Array  # numbers from 0; an item without an entity is a cluster of its own


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What is assumed of the model and its changes, and how often answers are drawn."""

    gain: float = GAIN
    correlation: float = CORRELATION
    draws: int = DRAWS
    seed: int = 0


def plan_items(items: Iterable[Mapping[str, Any]], settings: ExamSettings) -> PlannedExam:
    """The exam of rows of the table ITEM.

    With alpha_scale "auto" it is the half that the verdict sees. Raises UserError where there is no
    item of the domain or of general ability.
    """
    judged = [item for item in items if item["group"] in ("domain", "general")]
    exam = PlannedExam(
        np.array([item["group"] for item in judged], dtype=str),
        np.array([item["category"] for item in judged], dtype=str),
        numbered([item["cluster"] or f"\0{item['id']}" for item in judged]),
    )
    for group in ("domain", "general"):
        if not (exam.groups == group).any():
            raise UserError(
                f"there are no items of group `{group}`: the verdict needs domain items and "
                "general items"
            )
    return sealed_half(exam) if settings.alpha_scale == "auto" else exam


def numbered(names: ArrayLike) -> Array:
    """Each name's place among the different names, in their order."""
    return np.unique(names, return_inverse=True)[1]


def sealed_half(exam: PlannedExam) -> PlannedExam:
    """The items that are left for the verdict where the others choose the adapter's scale.

    Each category keeps every second of its clusters, as lmadapt.evaluation.adapter_scale splits.
    """
    kept: set[int] = set()
    seen: set[int] = set()
    for category in sorted(set(exam.categories.tolist())):
        names = sorted(set(exam.clusters[exam.categories == category].tolist()) - seen)
        seen.update(names)
        kept.update(names[::2])
    inside = np.isin(exam.clusters, list(kept))
    clusters = numbered(exam.clusters[inside])
    return PlannedExam(exam.groups[inside], exam.categories[inside], clusters)


def exam_power(
    exam: PlannedExam,
    settings: ExamSettings,
    assumed: Assumed,
    *,
    simulate_sizes: bool = False,
    tick: Tick = lambda: None,
) -> ExamPower:
    """What the exam can decide about a model that lost nothing and gained in the domain.

    `simulate_sizes`: also draw answers to exams that are as large as needed; `tick` is called after
    each draw. Raises UserError as `lmadapt.verdict.decision.compare` does.
    """
    questions = _questions(exam, settings, assumed)
    same = _draw_answers(exam, 0.0, 0.0, _generator(assumed, 0.0))
    unchanged = _compare_draw(exam, settings, *same)
    found = {churn: _simulate(exam, settings, assumed, churn, tick) for churn in CHURNS}
    sizes = {churn: exam_sizes(questions, churn, POWER) for churn in CHURNS}
    return ExamPower(
        score=SCORE,
        **vars(assumed),
        can_ship=can_ship(exam, settings),
        verdict=[
            _outcomes(churn, seen["verdict"], sum(sizes[churn].values()) or None)
            for churn, seen in found.items()
        ],
        questions=[
            _question_power(name, question, unchanged, found)
            for name, question in questions.items()
        ],
        grown=[
            _grown_exam(exam, settings, assumed, churn, size, tick)
            for churn, size in sizes.items()
            if simulate_sizes and size
        ],
    )


def can_ship(exam: PlannedExam, settings: ExamSettings) -> bool:
    """Whether the verdict on any result is SHIP.

    The best results are tried: a model that answers every item right, after a reference that
    answered a share of BEST_CASES right. Where none of them is SHIP, no result is.
    """
    luck = np.random.default_rng(0).permutation(len(exam.groups)) / len(exam.groups)
    right = np.ones(len(luck))
    for share in BEST_CASES:
        comparison = _compare_draw(exam, settings, (luck < share).astype(float), right)
        if judge(comparison, [], significance=settings.significance).outcome == "SHIP":
            return True
    return False


def _questions(exam: PlannedExam, settings: ExamSettings, assumed: Assumed) -> dict[str, Question]:
    """By name: the domain, general ability and its categories."""

    def question(inside: Array, margin: float | None) -> Question:
        return ask(
            exam.clusters[inside],
            margin=margin,
            gain=assumed.gain,
            correlation=assumed.correlation,
            significance=settings.significance,
        )

    general = exam.groups == "general"
    return {
        "domain": question(exam.groups == "domain", None),
        "general ability": question(general, settings.margin),
        **{
            name: question(general & (exam.categories == name), settings.category_margin)
            for name in sorted(set(exam.categories[general].tolist()))
        },
    }


def _question_power(
    name: str,
    question: Question,
    unchanged: Comparison,
    found: Mapping[float, Mapping[str, list[str]]],
) -> QuestionPower:
    passes, least = True, None
    if question.margin is not None:
        least = items_for(question, 0.0, POWER)
        margin_tests = {"general ability": unchanged.general, **unchanged.categories}
        passes = margin_tests[name].acceptable(question.significance)
    return QuestionPower(
        name=name,
        items=question.items,
        clusters=question.clusters,
        cluster_size=question.cluster_size,
        margin=question.margin,
        passes_unchanged=passes,
        items_to_pass_unchanged=least,
        outcomes=[
            _outcomes(churn, seen[name], items_for(question, churn, POWER))
            for churn, seen in found.items()
        ],
    )


def _simulate(
    exam: PlannedExam, settings: ExamSettings, assumed: Assumed, churn: float, tick: Tick
) -> dict[str, list[str]]:
    """By question and "verdict": the outcome of each draw."""
    draw, found = _generator(assumed, churn), dict[str, list[str]]()
    for _ in range(assumed.draws):
        answers = _draw_answers(exam, churn, assumed.gain, draw, assumed.correlation)
        comparison = _compare_draw(exam, settings, *answers)
        for name, outcome in _judged(comparison, settings.significance).items():
            found.setdefault(name, []).append(outcome)
        tick()
    return found


def _judged(comparison: Comparison, significance: float) -> dict[str, str]:
    """The outcome of the verdict, and of each question by itself."""
    domain = "SHIP" if comparison.domain.better_p <= significance else "INCONCLUSIVE"
    if comparison.domain_worse_p_adjusted <= significance:
        domain = "HOLD"
    found = {
        "verdict": str(judge(comparison, [], significance=significance).outcome),
        "domain": domain,
    }
    for name, test in {"general ability": comparison.general, **comparison.categories}.items():
        passed = "SHIP" if test.acceptable(significance) else "INCONCLUSIVE"
        found[name] = "HOLD" if test.harmful(significance) else passed
    return found


def _grown_exam(
    exam: PlannedExam,
    settings: ExamSettings,
    assumed: Assumed,
    churn: float,
    sizes: Mapping[str, int],
    tick: Tick,
) -> GrownExam:
    ship = None
    if sum(sizes.values()) <= LARGEST_EXAM:
        seen = _simulate(grow(exam, sizes), settings, assumed, churn, tick)["verdict"]
        ship = _rate(seen.count("SHIP"), len(seen))
    return GrownExam(churn=churn, items=dict(sizes), ship=ship)


def grow(exam: PlannedExam, sizes: Mapping[str, int]) -> PlannedExam:
    """The exam with so many items of "domain" and of each general category.

    Clusters are copied under new names, so that their sizes stay what they are; only the last copy
    may cut some short.
    """
    places, copies = [], []
    for name, size in sizes.items():
        of_name = exam.groups == "domain"
        if name != "domain":
            of_name = (exam.groups == "general") & (exam.categories == name)
        [own] = np.nonzero(of_name)
        places.append(np.resize(own, size))
        copies.append(np.arange(size) // len(own))
    chosen, copy = np.concatenate(places), np.concatenate(copies)
    clusters = numbered(exam.clusters[chosen] * (copy.max() + 1) + copy)
    return PlannedExam(exam.groups[chosen], exam.categories[chosen], clusters)


def _draw_answers(
    exam: PlannedExam, churn: float, gain: float, draw: Generator, correlation: float = 0.0
) -> tuple[Array, Array]:
    """Scores before and after, (n,) each; of each item's fate, `churn` / 2 are losses.

    As many are gains, and in the domain `gain` more. An item shares the fate that is drawn for its
    cluster with probability sqrt(correlation), so that any two changes of a cluster have that
    correlation.
    """
    n, clusters = len(exam.clusters), exam.clusters
    alone, together = draw.random(n), draw.random(clusters.max() + 1)[clusters]
    fate = np.where(draw.random(n) < np.sqrt(correlation), together, alone)
    lost = fate < churn / 2
    gained = fate >= 1 - churn / 2 - np.where(exam.groups == "domain", gain, 0.0)
    kept = draw.random(n) < ACCURACY
    return np.where(gained, 0.0, lost | kept), np.where(lost, 0.0, gained | kept)


def _compare_draw(
    exam: PlannedExam, settings: ExamSettings, before: Array, after: Array
) -> Comparison:
    ids = np.arange(len(before))
    of_exam = (ids, exam.groups, exam.categories, exam.clusters)
    return compare(
        Scored(*of_exam, before),
        Scored(*of_exam, after),
        margin=settings.margin,
        category_margin=settings.category_margin,
        significance=settings.significance,
    )


def _generator(assumed: Assumed, churn: float) -> Generator:
    return np.random.default_rng([assumed.seed, round(churn * 1e6)])


def _outcomes(churn: float, seen: Sequence[str], needed: int | None) -> Outcomes:
    ship, hold, inconclusive = (
        _rate(seen.count(name), len(seen)) for name in ("SHIP", "HOLD", "INCONCLUSIVE")
    )
    return Outcomes(
        churn=churn, ship=ship, hold=hold, inconclusive=inconclusive, items_needed=needed
    )


def _rate(hits: int, draws: int) -> Rate:
    low, high = wilson_interval(hits, draws, float(ndtri(0.975)))
    return Rate(share=hits / draws, low=round(low, 4), high=round(high, 4))
