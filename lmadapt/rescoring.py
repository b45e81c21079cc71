"""The present champion, put to the items of a version that wants its place."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.base_reference import locate_base
from lmadapt.dvc_store import fetch_file
from lmadapt.errors import UserError
from lmadapt.promotion import read_scores
from lmadapt.records import ITEM, read_table
from lmadapt.registry import aliased_version, read_lineage, shipped_folder
from lmadapt.verdict import Scored

ITEMS = "data/curated/items.parquet"


def rescored(client: MlflowClient, version: ModelVersion) -> tuple[Scored, Scored] | None:
    """Scores of champion and version on the version's items; None where the registry has them or there is no champion.

    Raises UserError when DVC no longer has the items.
    """
    champion = aliased_version(client, version.name, "champion")
    if champion is None or champion.version == version.version:
        return None
    after = read_scores(client, version)
    if np.array_equal(read_scores(client, champion).ids, after.ids):
        return None
    lineage = read_lineage(client, version)
    md5 = lineage["stages"].get("evaluate", {}).get("deps", {}).get(ITEMS)
    if md5 is None:
        raise UserError(f"{version.name} version {version.version} has no {ITEMS} in its lineage: nothing to score on")
    with TemporaryDirectory() as temp:
        items = Path(temp) / "items.parquet"
        fetch_file(md5, lineage["dvc_stores"], items)
        rows = [row for row in read_table(items, ITEM).to_pylist() if row["group"] != "behaviour"]
    correct = _score(champion, rows, lineage["params"]["evaluate"])
    return Scored(after.ids, after.groups, after.categories, after.clusters, correct), after


def _score(version: ModelVersion, rows: list[dict[str, Any]], settings: dict[str, Any]) -> Any:
    from lmadapt.evaluation import set_exam, sit_exam
    from lmadapt.serving import base_reference
    from lmadapt.shipping import load_shipped

    with shipped_folder(version) as shipped:
        adapter = (shipped / "adapter_config.json").is_file()
        model, tokenizer = load_shipped(shipped, locate_base(base_reference(shipped)) if adapter else None)
    exam = set_exam(rows, [], tokenizer, heldout_tokens=0, seed=settings["seed"])
    answers = sit_exam(
        model,
        tokenizer,
        exam,
        name=f"champion, version {version.version}",
        batch_tokens=settings["batch_tokens"],
        max_new_tokens=settings["max_new_tokens"],
    )
    return answers.correct
