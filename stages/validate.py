"""Validation: expectations on the curated data, with Data Docs; stops the pipeline where one fails."""

import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from lmadapt.data_docs import Outcome, run_suites
from lmadapt.derived_columns import PLACE, derive, read_curated, require_tokenizer
from lmadapt.errors import UserError
from lmadapt.expectations import make_suites
from lmadapt.files import atomic_folder, write_json
from lmadapt.models import load_tokenizer
from lmadapt.sections import Section
from lmadapt.stage import run


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
    near_duplicate_jaccard: float = Field(ge=0.7, le=1)
    decontaminate_ngram_words: int = Field(ge=3)


def validate(params: ValidateParams, curated: Path, model: Path, data_docs: Path, metrics: Path) -> None:
    """Check the tables in `curated` as the tokenizer of `model` reads them; write `data_docs`, then `metrics`.

    Raises UserError naming each critical expectation that fails. Data Docs are written all the same, and stay until
    the next run; `metrics`, on which training depends, is not.
    """
    metrics.unlink(missing_ok=True)
    settings = params.model_dump()
    minimums = {key: settings.pop(key) for key in list(settings) if key.startswith("min_")}
    tolerance = {key: settings.pop(key) for key in ("max_document_tokens", "max_failing_fraction")}
    tables, schemas = read_curated(curated)
    frames = {"tables": schemas, **derive(tables, require_tokenizer(load_tokenizer(model), model), **settings)}
    with atomic_folder(data_docs) as site:
        outcomes = run_suites(make_suites(minimums, **tolerance), frames, site)
    failures = [outcome for outcome in outcomes if not outcome.success]
    for warning in failures:
        if warning.severity == "warning":
            print(f"warning: {warning}", file=sys.stderr)
    if stopping := [str(outcome) for outcome in failures if outcome.severity == "critical" or outcome.exception]:
        listing = "\n".join(f"- {line}" for line in stopping)
        raise UserError(f"{len(stopping)} expectations fail:\n{listing}\nSee {data_docs / 'index.html'}")
    write_json(metrics, _report(outcomes, frames["totals"].to_dict("records")[0]))


def _report(outcomes: list[Outcome], totals: dict[str, Any]) -> dict[str, Any]:
    found = {one.name: {"success": one.success, "rows": one.rows, "failing": one.failing} for one in outcomes}
    counted = {key: value for key, value in totals.items() if key not in PLACE}
    return {"expectations": found, "warnings": sum(not one.success for one in outcomes), "totals": counted}


if __name__ == "__main__":
    run(validate)
