"""Curation: clean, filter, decontaminate, deduplicate and split the raw data; a reason for every document."""

import csv
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lmadapt.core.files import atomic_file, atomic_folder, write_json
from lmadapt.core.sections import Section
from lmadapt.core.stage_runner import run
from lmadapt.curation.curate import curate_tables
from lmadapt.curation.personal_data import KINDS
from lmadapt.curation.quality import FILTERS

Share = Annotated[float, Field(ge=0, le=1)]


class CurateParams(Section):
    """Settings of curation; sources of the thresholds: lmadapt/curation/quality.py, near_duplicates.py, decontamination.py."""

    seed: int
    engine: Literal["local", "ray"]
    processes: int | None = Field(ge=1)
    ray_address: str | None
    max_bad_records: float = Field(ge=0, lt=1)
    filters: dict[Literal[tuple(FILTERS)], float]  # type: ignore[valid-type]
    languages: list[str]
    min_language_confidence: Share
    personal_data: list[Literal[tuple(KINDS)]]  # type: ignore[valid-type]
    boilerplate_fraction: float | None = Field(gt=0, le=1)
    near_duplicate_jaccard: float = Field(
        ge=0.7, le=1
    )  # below, the bands of near_duplicates.py miss too many pairs
    decontaminate_ngram_words: int = Field(ge=3)
    on_leak: Literal["drop_document", "drop_item"]
    paraphrase_model: str | None
    paraphrase_similarity: float = Field(gt=0, le=1)
    heldout_fraction: float = Field(ge=0, lt=1)
    max_instructions_per_category: int | None = Field(ge=1)


SCREENING = {"filters", "languages", "min_language_confidence", "personal_data"}
RUNNING = {"engine", "processes", "ray_address"}


def curate(params: CurateParams, raw: Path, curated: Path, funnel: Path, metrics: Path) -> None:
    """Write the curated tables to `curated`, rows left after each step to `funnel`, counts to `metrics`."""
    with atomic_folder(curated) as folder:
        points, counts = curate_tables(
            raw,
            folder,
            screening=params.model_dump(include=SCREENING),
            running=params.model_dump(include=RUNNING),
            **params.model_dump(exclude=SCREENING | RUNNING),
        )
    with atomic_file(funnel) as file, file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["bar", "stage", "role", "documents"], lineterminator="\n")
        writer.writeheader()
        steps = list(dict.fromkeys(point["stage"] for point in points))
        for point in points:  # bars are drawn in alphabetical order
            writer.writerow(
                {"bar": f"{point['role']} {steps.index(point['stage'])} {point['stage']}", **point}
            )
    write_json(metrics, counts)


if __name__ == "__main__":
    run(curate)
