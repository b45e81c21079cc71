"""Curation: clean, filter, decontaminate, deduplicate and split the raw data; a reason for every document."""

import csv
from pathlib import Path

from pydantic import Field

from lmadapt.curation import curate_tables
from lmadapt.files import atomic_file, atomic_folder, write_json
from lmadapt.records import CURATED_TABLES, RAW_TABLES, read_table, write_table
from lmadapt.sections import Section
from lmadapt.stage import run


class CurateParams(Section):
    """Settings of curation; sources of the thresholds: lmadapt/quality.py, near_duplicates.py, decontamination.py."""

    seed: int
    min_words: int = Field(ge=0)
    max_words: int = Field(ge=1)
    min_alphabetic_fraction: float = Field(ge=0, le=1)
    max_repeated_line_fraction: float = Field(ge=0, le=1)
    near_duplicate_jaccard: float = Field(ge=0.7, le=1)  # below, the bands of near_duplicates.py miss too many pairs
    decontaminate_ngram_words: int = Field(ge=3)
    heldout_fraction: float = Field(ge=0, lt=1)


FILTERS = {"min_words", "max_words", "min_alphabetic_fraction", "max_repeated_line_fraction"}


def curate(params: CurateParams, raw: Path, curated: Path, funnel: Path, metrics: Path) -> None:
    """Write the curated tables to `curated`, rows left after each step to `funnel`, counts to `metrics`."""
    outcome = curate_tables(
        {role: read_table(raw / f"{role}.parquet", schema) for role, schema in RAW_TABLES.items()},
        filters=params.model_dump(include=FILTERS),
        **params.model_dump(exclude=FILTERS),
    )
    with atomic_folder(curated) as folder:
        for table, schema in CURATED_TABLES.items():
            write_table(outcome.tables[table], schema, folder / f"{table}.parquet")
    with atomic_file(funnel) as file, file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["bar", "stage", "role", "documents"], lineterminator="\n")
        writer.writeheader()
        steps = list(dict.fromkeys(point["stage"] for point in outcome.funnel))
        for point in outcome.funnel:  # bars are drawn in alphabetical order
            writer.writerow({"bar": f"{point['role']} {steps.index(point['stage'])} {point['stage']}", **point})
    write_json(metrics, outcome.metrics)


if __name__ == "__main__":
    run(curate)
