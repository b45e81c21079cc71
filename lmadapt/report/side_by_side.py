"""Judges any two models outside the pipeline: the same exam, statistics and report."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.core.files import write_json
from lmadapt.core.tables import HELDOUT, ITEM, read_table
from lmadapt.evaluation.comparison import item_rows, measure
from lmadapt.evaluation.exam import make_exam
from lmadapt.evaluation.exam_use import ExamSettings, open_exam
from lmadapt.evaluation.figures import summarise
from lmadapt.evaluation.reference import Reference, judged
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.variants import ModelVariant
from lmadapt.models.loading import load_tokenizer
from lmadapt.report.page import write_report
from lmadapt.sources.by_role import Source, read_source
from lmadapt.verdict.figures import EvaluationFigures


def compare_models(
    model: ModelVariant,
    against: Reference,
    *,
    items: Path,
    heldout: Path,
    settings: Mapping[str, Any],
    kept: Path,
    target: Path,
) -> EvaluationFigures:
    """Judge `model` against another; evaluate.json and forgetting.html go to the folder `target`.

    items: data/curated/items.parquet, or a file that a source of role `evaluation` can read.
    heldout: text for bits per byte, a table HELDOUT. settings: section `evaluate` of params.yaml.
    kept: the file with the answers of earlier runs. Raises UserError when items, text or models
    cannot be used or compared.
    """
    tokenizer = load_tokenizer(against.variant.folder)
    text = read_table(heldout, HELDOUT).to_pylist() if heldout.is_file() else []
    opened, exam_use = open_exam(_read_items(items), _exam_settings(settings))
    exam = make_exam(
        opened,
        text,
        tokenizer,
        heldout_tokens=settings["heldout_tokens"],
        seed=settings["seed"],
    )
    evaluation = EvaluationSettings(
        seed=settings["seed"],
        margin=settings["margin"],
        category_margin=settings["category_margin"],
        score=settings["score"],
        margin_scale=settings["margin_scale"],
        min_domain_gain=settings["min_domain_gain"],
        not_measured=settings["not_measured"],
        bits_per_byte_margin=settings["bits_per_byte_margin"],
        kl_margin=settings["kl_margin"],
        significance=exam_use.level,
        at_any_look=exam_use.looks == "any",
        batch_tokens=settings["batch_tokens"],
        max_new_tokens=settings["max_new_tokens"],
        lm_eval_tasks=settings["lm_eval_tasks"],
        answer_file=kept,
    )
    measured = measure(
        {"reference": against.variant, "adapted": model}, exam, tokenizer, evaluation
    )
    figures = summarise(measured, evaluation, judged=judged(against, model), exam_use=exam_use)
    write_json(target / "evaluate.json", figures.model_dump(mode="json"))
    write_report(
        target / "forgetting.html",
        figures,
        list(item_rows(measured, {})),
        significance=exam_use.level,
    )
    return figures


def _exam_settings(settings: Mapping[str, Any]) -> ExamSettings:
    names = {field.name for field in fields(ExamSettings)}
    return ExamSettings(**{key: value for key, value in settings.items() if key in names})


def _read_items(items: Path) -> list[dict[str, Any]]:
    if items.suffix == ".parquet":
        return list(read_table(items, ITEM).to_pylist())
    bad: list[dict[str, Any]] = []
    rows = list(read_source(Source(path=str(items)), "evaluation", bad))
    if bad:
        raise UserError(bad[0]["problem"])
    return rows
