"""Validation: expectations on the curated data, with Data Docs; stops the pipeline where one fails."""

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_folder, read_json, write_json
from lmadapt.core.sections import Section
from lmadapt.core.stage_runner import run
from lmadapt.curation.personal_data import KINDS
from lmadapt.models.loading import load_tokenizer
from lmadapt.validation.data_docs import Outcome, run_suites
from lmadapt.validation.expectations import add_own, drift_frame, make_suites
from lmadapt.validation.measured_tables import PLACE, derive, require_tokenizer


class ValidateParams(Section):
    """The least the curated data must offer, and the most that may be wrong with it."""

    min_corpus_documents: int = Field(ge=1)
    min_instructions: int = Field(ge=0)
    min_domain_items: int = Field(ge=0)
    min_general_items: int = Field(ge=0)
    min_items_per_category: int = Field(ge=0)
    min_general_categories: int = Field(ge=0)
    min_supervised_fraction: float = Field(ge=0, le=1)
    max_document_tokens: int = Field(ge=1)
    max_failing_fraction: float = Field(ge=0, lt=1)
    min_replay_text_fraction: float = Field(ge=0, lt=1)
    min_replay_instructions_fraction: float = Field(ge=0, lt=1)
    max_drift: float = Field(gt=0)
    languages: list[str]
    min_language_confidence: float = Field(ge=0, le=1)
    personal_data: list[Literal[tuple(KINDS)]]  # type: ignore[valid-type]
    near_duplicate_jaccard: float = Field(ge=0.7, le=1)
    decontaminate_ngram_words: int = Field(ge=3)


def validate(
    params: ValidateParams,
    curated: Path,
    model: Path,
    own: Path,
    baseline: Path,
    data_docs: Path,
    metrics: Path,
) -> None:
    """Check the tables in `curated` as the tokenizer of `model` reads them; write `data_docs`, then `metrics`.

    `own` changes and adds expectations; `baseline` is an earlier `metrics` to measure drift from, or {}. Raises
    UserError naming each expectation that fails with severity error. Data Docs are written all the same, and stay until
    the next run; `metrics`, on which training depends, is not.
    """
    metrics.unlink(missing_ok=True)
    settings = params.model_dump()
    minimums = {
        key: settings.pop(key)
        for key in list(settings)
        if key.startswith("min_") and "language" not in key
    }
    limits = {
        key: settings.pop(key)
        for key in ("max_document_tokens", "max_failing_fraction", "max_drift")
    }
    suites = make_suites(minimums, **limits)
    add_own(suites, own)
    frames = derive(curated, require_tokenizer(load_tokenizer(model), model), **settings)
    frames["drift"] = drift_frame(frames["sizes"], read_json(baseline))
    with atomic_folder(data_docs) as site:
        outcomes = run_suites(suites, frames, site)
    failures = [outcome for outcome in outcomes if not outcome.success]
    for warning in failures:
        if warning.severity == "warning":
            print(f"warning: {warning}", file=sys.stderr)
    if stopping := [
        str(outcome) for outcome in failures if outcome.severity == "error" or outcome.exception
    ]:
        listing = "\n".join(f"- {line}" for line in stopping)
        raise UserError(
            f"{len(stopping)} expectations fail:\n{listing}\nSee {data_docs / 'index.html'}"
        )
    write_json(metrics, _report(outcomes, frames))


def _report(outcomes: list[Outcome], frames: dict[str, Any]) -> dict[str, Any]:
    keys = ("success", "severity", "max_failing_fraction", "rows", "failing")
    return {
        "expectations": {one.name: {key: getattr(one, key) for key in keys} for one in outcomes},
        "warnings": sum(not one.success for one in outcomes),
        "totals": frames["totals"].drop(columns=PLACE).to_dict("records")[0],
        "sizes": frames["sizes"].set_index("id").drop(columns=PLACE[1:]).to_dict("index"),
    }


if __name__ == "__main__":
    run(validate)
