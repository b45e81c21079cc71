"""Can the exam decide? The items of a project, before a model is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pydantic import ConfigDict

from lmadapt.core.errors import UserError
from lmadapt.core.sections import Section, check_section
from lmadapt.core.tables import ITEM, read_table
from lmadapt.sources.by_role import Source, read_role
from lmadapt.verdict.exam_power import CORRELATION
from lmadapt.verdict.statistics import Array

MIN_CHANGED = 20  # changed items that share a cluster with others; fewer measure no correlation
# An estimate above this says that clusters are answered as a whole.
MOST_CORRELATION = 0.9
TABLES = ("data/curated/items.parquet", "data/raw/evaluation.parquet")


class EvaluationSources(Section):
    """The part of fetch.sources that is read here; other roles are ignored."""

    model_config = ConfigDict(extra="ignore")

    evaluation: list[Source]


class ExamSources(Section):
    """The part of section `fetch` that is read here; other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    packages: dict[str, str]
    sources: EvaluationSources


@dataclass(frozen=True)
class ProjectItems:
    """Rows of the table ITEM, and where they come from."""

    rows: list[dict[str, Any]]
    origin: str


def items_of_tables(project: Path) -> ProjectItems | None:
    """The curated items of a project, else the raw ones; None where it has neither."""
    for name in TABLES:
        if (project / name).is_file():
            return ProjectItems(read_table(project / name, ITEM).to_pylist(), name)
    return None


def items_of_project(params: Mapping[str, Any], source: str) -> ProjectItems:
    """The items of this folder's tables, else of `fetch.sources.evaluation` in `params`.

    `source` is what errors call the params. Raises UserError where no source can be read.
    """
    if found := items_of_tables(Path()):
        return found
    fetch = check_section(ExamSources, "fetch", params, source)
    try:
        rows = list(read_role("evaluation", fetch.sources.evaluation, fetch.packages, []))
    except UserError as error:
        raise UserError(
            f"{TABLES[0]}: no such file (`dvc repro curate` makes it), and the sources of items "
            f"cannot be read: {error}"
        ) from None
    return ProjectItems(rows, "fetch.sources.evaluation")


def measured_correlation(predictions: Path, items: list[dict[str, Any]]) -> tuple[float, str]:
    """The intraclass correlation of changes to plan with, and where it comes from.

    It is measured on `predictions`, the answers of the last evaluation, if that asked these items
    and enough of them changed in clusters of several items; else it is CORRELATION.
    """
    assumed = "assumed"
    if not predictions.is_file():
        return CORRELATION, f"{assumed}; there is no {predictions} to measure it on"
    rows = pq.read_table(predictions, columns=["id", "model", "score"]).to_pylist()
    scores = {(row["model"], row["id"]): row["score"] for row in rows}
    answered = [
        item
        for item in items
        if item["group"] in ("domain", "general") and ("adapted", item["id"]) in scores
    ]
    clusters = np.array([item["cluster"] or f"\0{item['id']}" for item in answered], dtype=str)
    changes = np.array(
        [scores["adapted", item["id"]] - scores["base", item["id"]] for item in answered]
    )
    names, sizes = np.unique(clusters, return_counts=True)
    shared = np.isin(clusters, names[sizes > 1])
    if np.count_nonzero(changes[shared]) < MIN_CHANGED:
        return CORRELATION, f"{assumed}; too few answers changed in {predictions} to measure it"
    found = intraclass_correlation(changes, clusters)
    return min(max(found, 0.0), MOST_CORRELATION), f"measured on {predictions}"


def intraclass_correlation(values: Array, clusters: Array) -> float:
    """The correlation of two values of a cluster, estimated by analysis of variance (Donner 1986).

    values, clusters: (n,). It may be negative. Needs two clusters, and one with several values.
    """
    codes, sizes = np.unique(clusters, return_inverse=True, return_counts=True)[1:]
    n, groups = len(values), len(sizes)
    means = np.bincount(codes, weights=values) / sizes
    within = float(np.sum((values - means[codes]) ** 2)) / (n - groups)
    between = float(np.sum(sizes * (means - values.mean()) ** 2)) / (groups - 1)
    size = (n - float(np.sum(sizes**2)) / n) / (groups - 1)
    spread = between + (size - 1) * within
    return (between - within) / spread if spread > 0 else 0.0
