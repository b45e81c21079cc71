"""Evaluation: every model of the chain on the same items; the verdict and its report."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lmadapt.core.files import atomic_file, file_sha256, folder_sha256, read_json, write_json
from lmadapt.core.sections import Section
from lmadapt.core.stage_runner import recorded_memory, run
from lmadapt.core.tables import HELDOUT, ITEM, read_table, write_table
from lmadapt.evaluation.adapter_scale import split_halves, turn_dial
from lmadapt.evaluation.comparison import Figures, Measured, item_rows, measure, measure_chain
from lmadapt.evaluation.exam import (
    ABILITIES,
    PREDICTION,
    Answers,
    Exam,
    prediction_rows,
    set_exam,
    sit_exam,
)
from lmadapt.evaluation.figures import accuracy_rows, attribute, lost_in, summarise
from lmadapt.evaluation.variants import KEPT, ModelVariant, examinee
from lmadapt.models.loading import Precision, load_tokenizer
from lmadapt.report.page import write_report
from lmadapt.report.plot_files import read_funnel, read_loss_curves
from lmadapt.verdict.figures import EvaluationFigures


class EvaluateParams(Section):
    """What is measured, and what counts as a loss."""

    seed: int = Field(ge=0)
    precision: Precision
    alpha_scale: float | Literal["auto"]
    attribution: bool
    lm_eval_tasks: list[str]
    margin: float = Field(gt=0, lt=1)
    category_margin: float = Field(gt=0, lt=1)
    significance: float = Field(gt=0, lt=0.5)
    batch_tokens: int = Field(ge=1)
    heldout_tokens: int = Field(ge=1)
    max_new_tokens: int = Field(ge=1)

    @property
    def margins(self) -> dict[str, float]:
        """What `lmadapt.verdict.decision.compare` needs."""
        return {
            "margin": self.margin,
            "category_margin": self.category_margin,
            "significance": self.significance,
        }


def evaluate(
    params: EvaluateParams,
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
    """Measure the models on the same items, compare them, judge the adapted one, and write figures and report."""
    tokenizer = load_tokenizer(base)
    exam = set_exam(
        read_table(items, ITEM).to_pylist(),
        read_table(heldout, HELDOUT).to_pylist(),
        tokenizer,
        heldout_tokens=params.heldout_tokens,
        seed=params.seed,
    )
    chain = {
        "base": ModelVariant(base, params.precision),
        "pretrained": ModelVariant(pretrained, params.precision),
        "adapted": ModelVariant(pretrained, params.precision, adapter),
    }
    dial = None
    if params.alpha_scale == "auto":
        exam, dial = _dial(params, chain, exam, tokenizer)
    alpha_scale = float(dial["chosen"] if dial else params.alpha_scale)
    chain["adapted"] = ModelVariant(pretrained, params.precision, adapter, alpha_scale)
    measured = measure(
        chain,
        exam,
        tokenizer,
        kept=KEPT,
        batch_tokens=params.batch_tokens,
        max_new_tokens=params.max_new_tokens,
        significance=params.significance,
        seed=params.seed,
        lm_eval_tasks=params.lm_eval_tasks,
    )
    chain_answers = _answer_chain(params, measured, tokenizer) if params.attribution else None
    attribution = chain_answers and attribute(*chain_answers, params.significance)
    figures = summarise(
        measured, **params.margins, seed=params.seed, dial=dial, attribution=attribution
    )
    rows = (
        row
        for name in chain
        for row in prediction_rows(measured.exam, name, measured.answers[name])
    )
    write_table(rows, PREDICTION, predictions)
    write_report(
        report,
        EvaluationFigures.model_validate(figures),
        list(item_rows(measured, lost_in(*chain_answers) if chain_answers else {})),
        significance=params.significance,
        precision=params.precision,
        funnel=read_funnel(funnel),
        curves={
            "pre-training": read_loss_curves(pretrain_curve),
            "fine-tuning": read_loss_curves(sft_curve),
        },
        validation=read_json(validation),
        data_docs="data_docs/index.html",
        memory=recorded_memory(metrics.parent),
        lineage={
            "base, SHA-256": folder_sha256(base),
            "adapter, SHA-256": folder_sha256(adapter),
            "items, SHA-256": file_sha256(items),
            "adapter scale": f"{alpha_scale:g}",
        },
    )
    _write_accuracy(accuracy, figures)
    write_json(metrics, figures)


def _dial(
    params: EvaluateParams, chain: dict[str, ModelVariant], exam: Exam, tokenizer: Any
) -> tuple[Exam, Figures]:
    """The sealed half of the exam, and the scale chosen on the other half."""
    development, sealed = split_halves(exam, seed=params.seed)

    def answer(link: ModelVariant, name: str) -> Answers:
        with examinee(link, KEPT) as asked:
            return sit_exam(
                asked,
                tokenizer,
                development,
                name=name,
                batch_tokens=params.batch_tokens,
                max_new_tokens=params.max_new_tokens,
            )

    dial = turn_dial(
        development,
        answer(chain["base"], "dial, base"),
        lambda scale: answer(replace(chain["adapted"], alpha_scale=scale), f"dial, {scale:g}"),
        params.margins,
    )
    return sealed, dial | {"sealed_items": sum(item["group"] in ABILITIES for item in sealed.items)}


def _answer_chain(
    params: EvaluateParams, measured: Measured, tokenizer: Any
) -> tuple[Exam, dict[str, Answers]]:
    """What every link answered, each in the precision in which it exists."""
    base, pretrained, adapted = (measured.links[name] for name in ("base", "pretrained", "adapted"))
    quantised = {"quantised": pretrained} if params.precision == "nf4" else {}
    links = {
        "base": replace(base, precision="bf16"),
        "pretrained": replace(pretrained, precision="bf16"),
        **quantised,
        "adapted": adapted,
        "merged": replace(adapted, precision="bf16", merged=True),
    }
    return measure_chain(links, measured, tokenizer, kept=KEPT, batch_tokens=params.batch_tokens)


def _write_accuracy(target: Path, figures: Figures) -> None:
    with (
        atomic_file(target) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(
            stream,
            ["bar", "model", "category", "group", "accuracy", "low", "high"],
            lineterminator="\n",
        )
        writer.writeheader()
        writer.writerows(accuracy_rows(figures))


if __name__ == "__main__":
    run(evaluate)
