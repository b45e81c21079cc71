"""Validation: expectations on the curated data, with Data Docs; stops the pipeline if one fails."""

import sys
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_folder, read_json, write_json
from lmadapt.core.stage_runner import run
from lmadapt.core.tables import ITEM, read_table
from lmadapt.curation.personal_data import KINDS
from lmadapt.models.loading import load_tokenizer
from lmadapt.validation.data_docs import run_suites
from lmadapt.validation.expectations import (
    Limits,
    drift_frame,
    exam_expectations,
    exam_frame,
    make_suites,
)
from lmadapt.validation.measured_tables import measure_tables, require_tokenizer
from lmadapt.validation.own_expectations import add_own
from lmadapt.validation.report import report_metrics
from lmadapt.verdict.exam_power import Assumed, ExamSettings, exam_power, plan_items
from lmadapt.verdict.power_figures import ExamPower

DRAWS = 200  # of answers to the exam: the probability of SHIP is known to 7 points


class ValidateParams(Limits):
    """Section `validate` of params.yaml: limits, and what rows are measured against."""

    languages: list[str]  # ISO 639 codes of the allowed languages of the corpus; empty: all
    min_language_confidence: float = Field(ge=0, le=1)
    personal_data: list[Literal[tuple(KINDS)]]  # type: ignore[valid-type]
    near_duplicate_jaccard: float = Field(ge=0.7, le=1)
    decontaminate_ngram_words: int = Field(ge=3)


def validate(
    params: ValidateParams,
    evaluate: ExamSettings,
    *,
    curated: Path,
    model: Path,
    own: Path,
    baseline: Path,
    data_docs: Path,
    exam: Path,
    metrics: Path,
) -> None:
    """Check the tables in `curated` with the tokenizer of `model`; write `data_docs` and `metrics`.

    `own` changes and adds expectations. `baseline` is an earlier `metrics` to measure drift from,
    or {}. `exam` gets what the items can decide under the margins of `evaluate`; it is a file of
    its own, so that another margin makes no training due. Raises UserError naming each expectation
    that fails with severity error. Data Docs are written even then; `metrics`, on which training
    depends, is not.
    """
    metrics.unlink(missing_ok=True)
    suites = make_suites(params) | {"exam": exam_expectations()}
    add_own(suites, own)
    frames = measure_tables(
        curated,
        require_tokenizer(load_tokenizer(model), model),
        near_duplicate_jaccard=params.near_duplicate_jaccard,
        decontaminate_ngram_words=params.decontaminate_ngram_words,
        languages=params.languages,
        min_language_confidence=params.min_language_confidence,
        personal_data=params.personal_data,
    )
    power = _exam_power(curated, evaluate)
    frames["exam"] = _exam_problems(power)
    frames["drift"] = drift_frame(frames["sizes"], read_json(baseline))
    with atomic_folder(data_docs) as site:
        results = run_suites(suites, frames, site)
    for result in results:
        if not result.success and result.severity == "warning":
            print(f"warning: {result}", file=sys.stderr)
    stopping = [f"\n- {result}" for result in results if result.stops]
    if stopping:
        raise UserError(
            f"{len(stopping)} expectations fail:{''.join(stopping)}\nSee {data_docs / 'index.html'}"
        )
    write_json(exam, {"problem": power} if isinstance(power, str) else power.model_dump())
    about_data = [one for one in results if not one.name.startswith("exam.")]
    write_json(metrics, report_metrics(about_data, frames))


def _exam_power(curated: Path, settings: ExamSettings) -> ExamPower | str:
    """What the items can decide, or why they cannot be judged."""
    try:
        items = read_table(curated / "items.parquet", ITEM).to_pylist()
        return exam_power(plan_items(items, settings), settings, Assumed(draws=DRAWS))
    except UserError as error:
        return str(error)


def _exam_problems(power: ExamPower | str) -> pd.DataFrame:
    if isinstance(power, str):
        return exam_frame({}, undecidable=power)
    return exam_frame(
        {one.name: one.impassable for one in power.questions},
        undecidable=power.undecidable,
        unlikely=power.unlikely,
    )


if __name__ == "__main__":
    run(validate)
