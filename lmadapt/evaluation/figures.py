"""The figures of metrics/evaluate.json, and the verdict on them."""

import logging
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from lmadapt.evaluation.alarms import Beside, judged_beside_scores
from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.behaviour_rates import behaviour_rates
from lmadapt.evaluation.bits_per_byte import Pair, text_figures
from lmadapt.evaluation.calibration import calibration_figures
from lmadapt.evaluation.changes import (
    compare_scores,
    domain_figures,
    harm_figures,
    items_by_category,
    margin_figures,
    scored,
    temperature_of,
)
from lmadapt.evaluation.comparison import REFERENCE, Measured
from lmadapt.evaluation.confident_losses import confident_losses
from lmadapt.evaluation.degenerate_answers import loops_to_end
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.fairness import fairness_figures
from lmadapt.evaluation.free_answers import classification_figures, generation_figures
from lmadapt.evaluation.label_gaps import label_gap_figures
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.verdict.decision import Comparison, Scored, judge
from lmadapt.verdict.exam_figures import ExamFigures
from lmadapt.verdict.figures import (
    Accuracy,
    AdapterScale,
    Attribution,
    Behaviour,
    CategoryAccuracies,
    CategoryChanges,
    Changes,
    EvaluationFigures,
    FreeAnswers,
    ModelFigures,
    Passed,
    TextByGroup,
    TextChangeByGroup,
    VerdictFigures,
)
from lmadapt.verdict.judged import MODELS, Judged
from lmadapt.verdict.remedies import remedies
from lmadapt.verdict.statistics import Array, accuracy_interval, chance_adjusted

log = logging.getLogger(__name__)


def summarise(
    measured: Measured,
    settings: EvaluationSettings,
    *,
    judged: Judged,
    adapter_scale: AdapterScale | None = None,
    attribution: Attribution | None = None,
    exam_use: ExamFigures,
) -> EvaluationFigures:
    """Everything in metrics/evaluate.json: what changed, and the verdict on it.

    "reference" and "adapted" must be measured; in the pipeline "base" and "pretrained" are as well.
    `exam_use` describes the whole exam; the items that the verdict is on are counted here.
    Raises UserError as `lmadapt.verdict.comparison.compare` does.
    """
    exam = measured.exam
    reference, adapted = measured.answers[REFERENCE], measured.answers["adapted"]
    answers = {name: measured.answers[name] for name in MODELS if name in measured.answers}
    pairs = _pairs(list(answers))
    temperature = temperature_of(exam, reference) if settings.score == "graded" else None
    found = {name: scored(exam, model, temperature) for name, model in answers.items()}
    compared = {
        (before, after): compare_scores(found[before], found[after], settings)
        for before, after in pairs
    }
    text, level = text_figures(exam, answers, pairs, settings), settings.significance
    models = _models(exam, answers, found, text.models, level)
    backward_transfer, forgetting = _transfer(models)
    behaviour = _behaviour(exam, reference, adapted)
    beside = judged_beside_scores(exam, answers, measured.divergences, settings)
    figures = EvaluationFigures(
        judged=judged,
        models=models,
        changes={
            f"{after}_vs_{before}": _changes(compared[before, after], text.changes[before, after])
            for before, after in pairs
        },
        behaviour=behaviour,
        behaviour_tests=beside.behaviour_figures(),
        alarms=beside.alarm_figures(),
        behaviour_rates=behaviour_rates(exam, reference, adapted, level),
        backward_transfer=backward_transfer,
        forgetting=forgetting,
        fairness=fairness_figures(exam, reference, adapted, level),
        classification=classification_figures(exam, answers),
        label_gaps=label_gap_figures(exam, reference, adapted, level),
        generation=generation_figures(exam, answers),
        kl_to_reference=measured.kl_to_reference,
        confident_losses=confident_losses(exam, reference, adapted, level),
        calibration=calibration_figures(exam, answers, REFERENCE, level),
        triage=measured.asked_again.figures,
        dial=adapter_scale,
        temperature=temperature,
        alpha_scale=measured.variants["adapted"].alpha_scale,
        attribution=attribution,
        exam=exam_use.model_copy(update={"items": len(found[REFERENCE].ids)}),
        verdict=_verdict(exam, compared[REFERENCE, "adapted"], behaviour, beside, level),
    )
    return _told(figures, level)


def _models(
    exam: Exam,
    answers: Mapping[str, Answers],
    found: Mapping[str, Scored],
    texts: Mapping[str, TextByGroup],
    significance: float,
) -> dict[str, ModelFigures]:
    """What each model scored, in the order of `answers`."""
    return {
        name: _model_figures(
            exam, model, found[name], name=name, text=texts[name], significance=significance
        )
        for name, model in answers.items()
    }


def _told(figures: EvaluationFigures, significance: float) -> EvaluationFigures:
    """The figures rounded, their verdict with remedies, which need all others."""
    evidence = [*figures.verdict.evidence, *figures.exam.in_words()]
    told = {"remedy": remedies(figures, significance), "evidence": evidence}
    verdict = figures.verdict.model_copy(update=told)
    figures = figures.model_copy(update={"verdict": verdict})
    return EvaluationFigures.model_validate(_rounded(figures.model_dump()))


def _pairs(names: list[str]) -> list[Pair]:
    """Each model with the next one, and reference and base with the last; by the later model."""
    pairs = {*pairwise(names), *((name, names[-1]) for name in ("reference", "base"))}
    known = [pair for pair in pairs if pair[0] in names]
    return sorted(known, key=lambda pair: (names.index(pair[1]), names.index(pair[0])))


def _model_figures(
    exam: Exam,
    answers: Answers,
    found: Scored,
    *,
    name: str,
    text: TextByGroup,
    significance: float,
) -> ModelFigures:
    chances = np.zeros(len(found.ids)) if found.chances is None else found.chances

    def accuracy(chosen: Array) -> Accuracy:
        share, chance = float(found.scores[chosen].mean()), float(chances[chosen].mean())
        return Accuracy(
            accuracy=share,
            n=int(chosen.sum()),
            interval=accuracy_interval(found.scores[chosen], found.clusters[chosen], significance),
            chance=chance,
            chance_adjusted=chance_adjusted(share, chance),
        )

    def by_category(group: str) -> dict[str, Accuracy]:
        return {name: accuracy(chosen) for name, chosen in items_by_category(found, group).items()}

    return ModelFigures(
        domain=accuracy(found.groups == "domain"),
        general=accuracy(found.groups == "general"),
        categories=CategoryAccuracies(domain=by_category("domain"), general=by_category("general")),
        bits_per_byte=text,
        behaviour=_passed(exam, answers),
        free_answers=_free_answers(name, exam, answers),
    )


def _free_answers(name: str, exam: Exam, answers: Answers) -> FreeAnswers:
    places = [place for place, item in enumerate(exam.items) if item["check"]]
    empty = sum(not answers.responses[place] for place in places)
    if empty * 2 > len(places):
        log.warning("%s gave an empty answer to %d of %d free-form items", name, empty, len(places))
    looping = sum(loops_to_end(answers.responses[place]) for place in places)
    return FreeAnswers(empty=empty, looping=looping, n=len(places))


def _passed(exam: Exam, answers: Answers) -> Passed:
    places = _behaviour_places(exam)
    return Passed(passed=sum(answers.scores[place] == 1 for place in places), n=len(places))


def _behaviour(exam: Exam, before: Answers, after: Answers) -> Behaviour:
    lost, gained = [], []
    for place in _behaviour_places(exam):
        passed, passes = before.scores[place] == 1, after.scores[place] == 1
        if passed and not passes:
            lost.append(exam.items[place]["id"])
        if passes and not passed:
            gained.append(exam.items[place]["id"])
    return Behaviour(lost=lost, gained=gained)


def _behaviour_places(exam: Exam) -> list[int]:
    return [place for place, item in enumerate(exam.items) if item["group"] == "behaviour"]


def _changes(compared: Comparison, text: TextChangeByGroup) -> Changes:
    domain, general = compared.domain_categories, compared.categories
    return Changes(
        domain=domain_figures(compared),
        general=margin_figures(compared.general),
        categories=CategoryChanges(
            domain={name: harm_figures(test) for name, test in domain.items()},
            general={name: margin_figures(test) for name, test in general.items()},
        ),
        bits_per_byte=text,
    )


def _transfer(models: Mapping[str, ModelFigures]) -> tuple[float, float]:
    """Backward transfer and forgetting, means over general categories.

    Backward transfer: final minus first accuracy (Lopez-Paz & Ranzato 2017), negative for
    forgetting. Forgetting: best earlier minus final accuracy (Chaudhry et al. 2018). Both are of
    the models in one precision, from the base on; without a base, they start at the reference.
    """
    trained = [name for name in models if name != "reference"] if "base" in models else models
    categories = [models[name].categories.general.values() for name in trained]
    accuracies = np.array([[entry.accuracy for entry in entries] for entries in categories])
    first, last, best = accuracies[0], accuracies[-1], accuracies[:-1].max(axis=0)
    return float(np.mean(last - first)), float(np.mean(best - last))


def _verdict(
    exam: Exam,
    compared: Comparison,
    behaviour: Behaviour,
    beside: Beside,
    significance: float,
) -> VerdictFigures:
    """The verdict without remedies, which need all other figures."""
    lost = [item for item in exam.items if item["id"] in behaviour.lost]
    critical = [item["id"] for item in lost if item["severity"] == "critical"]
    verdict = judge(
        compared,
        critical,
        significance=significance,
        alarms=beside.alarms,
        behaviours=beside.behaviours,
    )
    return VerdictFigures(**vars(verdict), remedy=[])


def _rounded(value: Any) -> Any:
    """Six significant digits: more would only record the order of additions."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    # Adding 0.0 turns -0.0 into 0.0.
    return float(f"{value:.6g}") + 0.0 if isinstance(value, float) else value
