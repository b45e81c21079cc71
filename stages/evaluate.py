"""Evaluation: every model answers the same items; then the verdict and its report."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from lmadapt.core.errors import UserError
from lmadapt.core.files import file_sha256, folder_sha256, read_json, write_json
from lmadapt.core.sections import Section
from lmadapt.core.stage_runner import recorded_memory, run
from lmadapt.core.tables import HELDOUT, ITEM, read_table
from lmadapt.evaluation.accuracy_plot import write_accuracy
from lmadapt.evaluation.adapter_scale import choose_scale
from lmadapt.evaluation.answer_cache import ANSWER_FILE
from lmadapt.evaluation.attribution import answer_chain, attribute, lost_in
from lmadapt.evaluation.comparison import Measured, item_rows, measure
from lmadapt.evaluation.exam import Exam, make_exam
from lmadapt.evaluation.exam_use import ExamSettings, open_exam
from lmadapt.evaluation.figures import summarise
from lmadapt.evaluation.predictions import write_predictions
from lmadapt.evaluation.reference import judged, served_variant
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.variants import ModelVariant
from lmadapt.models.loading import Precision, load_tokenizer
from lmadapt.registry.reference import open_reference
from lmadapt.report.page import write_report
from lmadapt.report.plot_files import read_funnel, read_loss_curves
from lmadapt.verdict.comparison import MarginScale, Score
from lmadapt.verdict.figures import AdapterScale, EvaluationFigures
from lmadapt.verdict.judged import Artifact, Judged


class EvaluateParams(Section):
    """What is measured, and what counts as a loss."""

    seed: int = Field(ge=0)
    reference: str = Field(min_length=1)
    reference_precision: Precision
    precision: Precision
    alpha_scale: float | Literal["auto"]
    attribution: bool
    lm_eval_tasks: list[str]
    margin: float = Field(gt=0, lt=1)
    category_margin: float = Field(gt=0, lt=1)
    score: Score
    margin_scale: MarginScale
    min_domain_gain: float = Field(ge=0, lt=1)
    not_measured: list[str]
    bits_per_byte_margin: float = Field(gt=0)
    kl_margin: float = Field(gt=0)
    significance: float = Field(gt=0, lt=0.5)
    candidates: int = Field(ge=1)
    looks: Annotated[int, Field(ge=1)] | Literal["any"]
    planned_items: int | None = Field(ge=1)
    sealed_fraction: float = Field(ge=0, le=0.9)
    batch_tokens: int = Field(ge=1)
    heldout_tokens: int = Field(ge=1)
    max_new_tokens: int = Field(ge=1)

    @model_validator(mode="after")
    def _planned(self) -> Self:
        if (self.planned_items is not None) != (self.looks not in (1, "any")):
            raise ValueError(
                f"looks is {self.looks}, planned_items is {self.planned_items}: two or more looks "
                "need the number of items at the last one, and only they do"
            )
        return self


class Served(Section):
    """What section `register` says of the model that will be served."""

    model_config = ConfigDict(extra="ignore")  # register itself checks the section

    artifact: Artifact
    tracking_uri: str


def evaluate(
    params: EvaluateParams,
    register: Served,
    *,
    base: Path,
    pretrained: Path,
    adapter: Path,
    items: Path,
    heldout: Path,
    validation: Path,
    funnel: Path,
    pretrain_curve: Path,
    sft_curve: Path,
    predictions: Path,
    report: Path,
    accuracy: Path,
    metrics: Path,
) -> None:
    """Ask the models the same items, judge what will be served, and write figures and report."""
    opened, exam_use = open_exam(read_table(items, ITEM).to_pylist(), _exam_settings(params))
    _require_known(params, opened)
    settings, tokenizer = _settings(params, exam_use.level), load_tokenizer(base)
    exam = make_exam(
        opened,
        read_table(heldout, HELDOUT).to_pylist(),
        tokenizer,
        heldout_tokens=params.heldout_tokens,
        seed=params.seed,
    )
    variants = {
        "base": ModelVariant(base, params.precision),
        "pretrained": ModelVariant(pretrained, params.precision),
        "adapted": served_variant(pretrained, adapter, register.artifact, params.precision),
    }
    measured, compared, sweep = _measure(params, settings, register, variants, exam, tokenizer)
    chain = answer_chain(measured, tokenizer, settings) if params.attribution else None
    figures = summarise(
        measured,
        settings,
        judged=compared,
        adapter_scale=sweep,
        attribution=attribute(chain, settings.significance) if chain else None,
        exam_use=exam_use,
    )
    write_predictions(measured.exam, measured.answers, predictions, figures.temperature)
    write_report(
        report,
        figures,
        list(item_rows(measured, lost_in(chain) if chain else {})),
        significance=settings.significance,
        funnel=read_funnel(funnel),
        curves={
            "pre-training": read_loss_curves(pretrain_curve),
            "fine-tuning": read_loss_curves(sft_curve),
        },
        validation=read_json(validation),
        data_docs="data_docs/index.html",
        memory=recorded_memory(metrics.parent),
        lineage=_origin(figures, base, adapter, items),
    )
    write_accuracy(figures, accuracy)
    write_json(metrics, figures.model_dump(mode="json"))


def _require_known(params: EvaluateParams, items: Sequence[Mapping[str, Any]]) -> None:
    """Refuse names in `not_measured` before any model is asked; tasks add categories later."""
    known = sorted({item["category"] for item in items if item["group"] == "general"})
    for name in params.not_measured:
        if name not in known and not params.lm_eval_tasks:
            raise UserError(
                f"evaluate.not_measured names {name!r}, which is no general category; the exam "
                f"has {', '.join(known)}"
            )


def _measure(
    params: EvaluateParams,
    settings: EvaluationSettings,
    register: Served,
    variants: dict[str, ModelVariant],
    exam: Exam,
    tokenizer: Any,
) -> tuple[Measured, Judged, AdapterScale | None]:
    """What the reference and the variants answer, "adapted" at its scale; and how it was chosen."""
    sweep, base = None, variants["base"].folder
    address = os.environ.get("MLFLOW_TRACKING_URI") or register.tracking_uri
    with open_reference(
        params.reference, params.reference_precision, base=base, tracking_uri=address
    ) as reference:
        variants = {"reference": reference.variant} | variants
        if params.alpha_scale == "auto":
            exam, sweep = choose_scale(exam, tokenizer, variants, settings)
        scale = sweep.chosen if sweep else float(params.alpha_scale)
        variants["adapted"] = replace(variants["adapted"], alpha_scale=scale)
        measured = measure(variants, exam, tokenizer, settings)
        return measured, judged(reference, variants["adapted"]), sweep


def _exam_settings(params: EvaluateParams) -> ExamSettings:
    return ExamSettings(
        significance=params.significance,
        candidates=params.candidates,
        looks=params.looks,
        planned_items=params.planned_items,
        sealed_fraction=params.sealed_fraction,
        lm_eval_tasks=params.lm_eval_tasks,
    )


def _settings(params: EvaluateParams, level: float) -> EvaluationSettings:
    return EvaluationSettings(
        seed=params.seed,
        margin=params.margin,
        category_margin=params.category_margin,
        score=params.score,
        margin_scale=params.margin_scale,
        min_domain_gain=params.min_domain_gain,
        not_measured=params.not_measured,
        bits_per_byte_margin=params.bits_per_byte_margin,
        kl_margin=params.kl_margin,
        significance=level,
        at_any_look=params.looks == "any",
        batch_tokens=params.batch_tokens,
        max_new_tokens=params.max_new_tokens,
        lm_eval_tasks=params.lm_eval_tasks,
        answer_file=ANSWER_FILE,
    )


def _origin(figures: EvaluationFigures, base: Path, adapter: Path, items: Path) -> dict[str, str]:
    """What the report shows of where its figures come from."""
    return {
        "reference, SHA-256": figures.judged.reference_sha256,
        "base, SHA-256": folder_sha256(base),
        "adapter, SHA-256": folder_sha256(adapter),
        "items, SHA-256": file_sha256(items),
        "adapter scale": f"{figures.alpha_scale:g}",
    }


if __name__ == "__main__":
    run(evaluate)
