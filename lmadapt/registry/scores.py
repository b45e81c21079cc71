"""Reads what a version scored item by item, and lines up two versions by what the items ask."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.registry.versions import read_artifact
from lmadapt.verdict.decision import Scored

PREDICTIONS = "predictions.parquet"
CHOICES = "log_likelihoods"  # one a choice; none where the model answers freely


def read_scores(client: MlflowClient, version: ModelVersion) -> Scored | None:
    """The scores of a version's adapted model on domain and general items, sorted by content.

    The ids are the items' hashes: an id in a file says nothing of what was asked. None when the
    version has no predictions beside it, or has those of an earlier release, without hashes.
    """
    if PREDICTIONS not in {file.path for file in client.list_artifacts(version.run_id)}:
        return None
    with read_artifact(client, version, PREDICTIONS) as file:
        table = pq.read_table(file).to_pandas()
    if "content_sha256" not in table:
        return None
    judged = (table["model"] == "adapted") & table["group"].isin(["domain", "general"])
    table = table[judged].sort_values(["content_sha256", "id"])
    ids = content_ids(table["content_sha256"])
    clusters = table["cluster"].to_numpy(str)
    return Scored(
        ids,
        table["group"].to_numpy(str),
        table["category"].to_numpy(str),
        np.where(clusters == "", np.char.add("\0", ids), clusters),  # alone in a cluster of its own
        table["score"].to_numpy(float),
        np.array([1 / len(choices) if len(choices) else 0.0 for choices in table[CHOICES]]),
        *_graded(table),
    )


def _graded(table: Any) -> tuple[np.ndarray | None, float | None]:
    """Graded scores and their temperature; None in versions that were judged without them."""
    if "graded" not in table or table["graded"].isna().any():
        return None, None
    return table["graded"].to_numpy(float), float(table["temperature"].iloc[0])


def content_ids(hashes: "pd.Series[str]") -> np.ndarray:
    """The hashes as ids, (n,): the second item with the same content gets `#1`, and so on."""
    repeats = hashes.groupby(hashes).cumcount()
    suffixes = np.where(repeats == 0, "", "#" + repeats.astype(str))
    return np.char.add(hashes.to_numpy(str), suffixes.astype(str))


def same_items(one: Scored, other: Scored) -> bool:
    """Whether both answered the same items, whatever their ids and clusters are called."""
    return np.array_equal(one.ids, other.ids)


def grouped_as(scores: Scored, like: Scored) -> Scored:
    """The scores with the groups, categories and clusters that another version gives its items."""
    return replace(like, scores=scores.scores, graded=scores.graded, temperature=scores.temperature)
