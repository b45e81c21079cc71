"""Evaluation: three models on the same items in the same precision; the verdict and its report."""

import csv
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from lmadapt.charts import read_funnel, read_loss_curves
from lmadapt.evaluation import PREDICTION, Answers, Exam, prediction_rows, set_exam, sit_exam
from lmadapt.files import atomic_file, write_json
from lmadapt.models import Precision, load_for_inference, load_tokenizer
from lmadapt.records import HELDOUT, ITEM, read_table, write_table
from lmadapt.report import write_report
from lmadapt.sections import Section
from lmadapt.stage import run
from lmadapt.summary import GROUPS, Figures, accuracy_rows, summarise


class EvaluateParams(Section):
    """What is measured, and what counts as a loss."""

    seed: int = Field(ge=0)
    precision: Precision
    margin: float = Field(gt=0, lt=1)
    category_margin: float = Field(gt=0, lt=1)
    significance: float = Field(gt=0, lt=0.5)
    batch_tokens: int = Field(ge=1)
    heldout_tokens: int = Field(ge=1)
    max_new_tokens: int = Field(ge=1)


def evaluate(
    params: EvaluateParams,
    *,
    base: Path,
    pretrained: Path,
    adapter: Path,
    items: Path,
    heldout: Path,
    funnel: Path,
    pretrain_curve: Path,
    sft_curve: Path,
    predictions: Path,
    report: Path,
    accuracy: Path,
    metrics: Path,
) -> None:
    """Score all three models, compare them item by item, judge the adapted one, and write figures and report."""
    tokenizer = load_tokenizer(base)
    exam = set_exam(
        read_table(items, ITEM).to_pylist(),
        read_table(heldout, HELDOUT).to_pylist(),
        tokenizer,
        heldout_tokens=params.heldout_tokens,
        seed=params.seed,
    )
    models = {"base": (base, None), "pretrained": (pretrained, None), "adapted": (pretrained, adapter)}
    answers = {
        name: _examine(params, exam, tokenizer, name=name, folder=folder, adapter=over)
        for name, (folder, over) in models.items()
    }
    figures = summarise(
        exam,
        answers,
        margin=params.margin,
        category_margin=params.category_margin,
        significance=params.significance,
        seed=params.seed,
    )
    rows = (row for name in models for row in prediction_rows(exam, name, answers[name]))
    write_table(rows, PREDICTION, predictions)
    write_report(
        report,
        _with_new_keys(figures),
        list(_report_items(exam, answers)),
        significance=params.significance,
        precision=params.precision,
        funnel=read_funnel(funnel),
        curves={"pre-training": read_loss_curves(pretrain_curve), "fine-tuning": read_loss_curves(sft_curve)},
    )
    _write_accuracy(accuracy, figures)
    write_json(metrics, figures)


def _examine(
    params: EvaluateParams, exam: Exam, tokenizer: object, *, name: str, folder: Path, adapter: Path | None
) -> Answers:
    """Load a model, put all questions to it, and let it go before the next one comes."""
    model = load_for_inference(folder, precision=params.precision, adapter=adapter)
    answers = sit_exam(
        model, tokenizer, exam, name=name, batch_tokens=params.batch_tokens, max_new_tokens=params.max_new_tokens
    )
    del model
    gc.collect()
    return answers


def _report_items(exam: Exam, answers: dict[str, Answers]) -> Iterator[dict[str, Any]]:
    """The rows of the report: every item with what the first and the last model answered."""
    sides = {"before": answers["base"], "after": answers["adapted"]}
    for index, item in enumerate(exam.items):
        said = {
            side: {"response": item["choices"][one.predictions[index]], "score": float(one.correct[index])}
            for side, one in sides.items()
        }
        yield item | said | {"notes": []}
    for index, check in enumerate(exam.checks):
        said = {side: {"response": one.texts[index], "score": float(one.passed[index])} for side, one in sides.items()}
        yield check | said | {"notes": []}


def _with_new_keys(figures: Figures) -> Figures:
    models = {
        name: model
        | {group: model[group] | {"chance": 0.0, "chance_adjusted": model[group]["accuracy"]} for group in GROUPS}
        | {
            "categories": {
                group: {
                    category: entry | {"chance": 0.0, "chance_adjusted": entry["accuracy"]}
                    for category, entry in model["categories"][group].items()
                }
                for group in GROUPS
            }
        }
        for name, model in figures["models"].items()
    }
    empty: Figures = {"attribution": None, "kl_to_base": None, "triage": None, "dial": None, "alpha_scale": 1.0}
    empty |= {"fairness": {}, "classification": {}, "generation": {}}
    return figures | empty | {"models": models, "verdict": figures["verdict"] | {"remedy": []}}


def _write_accuracy(target: Path, figures: Figures) -> None:
    with atomic_file(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(
            stream, ["bar", "model", "category", "group", "accuracy", "low", "high"], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(accuracy_rows(figures))


if __name__ == "__main__":
    run(evaluate)
