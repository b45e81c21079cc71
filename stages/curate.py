"""Curation: clean, filter, decontaminate, deduplicate and split the raw data."""

from pathlib import Path

from lmadapt.core.files import atomic_folder, write_json
from lmadapt.core.stage_runner import run
from lmadapt.curation.funnel import write_funnel
from lmadapt.curation.sequence import curate_tables
from lmadapt.curation.settings import CurationSettings


class CurateParams(CurationSettings):
    """Section `curate` of params.yaml."""


def curate(params: CurateParams, raw: Path, curated: Path, funnel: Path, metrics: Path) -> None:
    """Write the curated tables to `curated`; rows left after each step to `funnel`; `metrics`."""
    with atomic_folder(curated) as folder:
        points, figures = curate_tables(raw, folder, params)
    write_funnel(points, funnel)
    write_json(metrics, figures)


if __name__ == "__main__":
    run(curate)
