"""Reads what a version scored item by item, and tests it against the champion on the same items."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.registry.versions import read_artifact, read_lineage
from lmadapt.verdict.decision import Scored, compare, judge

PREDICTIONS = "predictions.parquet"
CHOICES = "log_likelihoods"  # one a choice; none where the model answers freely


def read_scores(client: MlflowClient, version: ModelVersion) -> Scored | None:
    """The scores of a version's adapted model on domain and general items, sorted by id.

    None when the version has no predictions beside it.
    """
    if PREDICTIONS not in {file.path for file in client.list_artifacts(version.run_id)}:
        return None
    with read_artifact(client, version, PREDICTIONS) as file:
        table = pq.read_table(file).to_pandas()
    judged = (table["model"] == "adapted") & table["group"].isin(["domain", "general"])
    table = table[judged].sort_values("id")
    ids = table["id"].to_numpy(str)
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


def scores_refusal(
    client: MlflowClient,
    version: ModelVersion,
    champion: ModelVersion,
    champion_scores: Scored | None,
) -> str:
    """Why the scores of a version do not let it take over from the champion; "" when they do.

    The test is that of the verdict (lmadapt.verdict.decision.judge), on the same items and at the
    version's own margins. `champion_scores` stand in for the champion's stored ones.
    """
    before = champion_scores or read_scores(client, champion)
    after = read_scores(client, version)
    if before is None or after is None or not np.array_equal(before.ids, after.ids):
        return (
            f"version {champion.version}, the champion, answered other items; "
            f"`lmadapt promote {version.name}/{version.version}` asks it the items of this version"
        )
    settings = read_lineage(client, version).params["evaluate"]
    compared = compare(
        before,
        after,
        margin=settings["margin"],
        category_margin=settings["category_margin"],
        significance=settings["significance"],
        # Versions of earlier releases have none of these settings.
        margin_scale=settings.get("margin_scale", "accuracy"),
        min_domain_gain=settings.get("min_domain_gain", 0.0),
        not_measured=settings.get("not_measured", []),
        score=settings.get("score", "accuracy"),
    )
    verdict = judge(compared, [], significance=settings["significance"])
    if verdict.outcome == "SHIP":
        return ""
    return f"against version {champion.version}, the champion: {verdict.reason}"
