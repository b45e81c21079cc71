"""Which version serves: the aliases candidate, champion and previous, and the test a champion must pass."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.errors import UserError
from lmadapt.registry import aliased_version, reaching, read_artifact, read_lineage
from lmadapt.registry_lock import registry_lock
from lmadapt.verdict import Scored, compare, judge


@dataclass(frozen=True)
class Promotion:
    """A version, the aliases that point to it now, and why it did not become champion ("" when it is)."""

    model_name: str
    version: int
    aliases: list[str]
    refusal: str


@reaching()
def promote(
    client: MlflowClient,
    version: ModelVersion,
    *,
    candidate: bool = False,
    reason: str | None = None,
    rescored: tuple[Scored, Scored] | None = None,
) -> Promotion:
    """Make the version champion, and the champion before it `previous`, if `champion_refusal` has no objection.

    `candidate` gives it that alias in any case. `reason` overrides the objections but one (a version that was not
    verified) and is recorded. Everything is read and written under the registry's lock, so that of two promoters
    the second is measured against the first; afterwards the alias is read again.
    """
    name = version.name
    with registry_lock(client, name):
        if candidate:
            client.set_registered_model_alias(name, "candidate", version.version)
        version = client.get_model_version(name, version.version)
        champion = aliased_version(client, name, "champion")
        refusal = champion_refusal(client, version, champion, forced=reason is not None, rescored=rescored)
        if not refusal and (champion is None or champion.version != version.version):
            tags = {"promoted_over": champion.version if champion else "", "forced_because": reason or ""}
            _switch(client, version, tags, previous=champion.version if champion else None)
        now = aliased_version(client, name, "champion")
        if not refusal and (now is None or now.version != version.version):
            refusal = f"version {now.version if now else 'none'} was made champion by someone else at the same time"
    registered = client.get_registered_model(name).aliases
    aliases = sorted(alias for alias, number in registered.items() if str(number) == str(version.version))
    return Promotion(name, int(version.version), aliases, refusal)


@reaching()
def roll_back(client: MlflowClient, name: str, reason: str) -> tuple[int, int]:
    """Give `champion` back to the version it was taken from; returns both versions, from and to.

    What is left is tagged `rolled_back_because`, and not promoted again unless forced. Raises UserError when there
    is no champion, or it had none before it.
    """
    with registry_lock(client, name):
        champion = aliased_version(client, name, "champion")
        if champion is None:
            raise UserError(f"{name}: there is no champion to roll back")
        before = champion.tags.get("promoted_over")
        if not before:
            raise UserError(f"{name} version {champion.version} was the first champion: there is none to go back to")
        client.set_model_version_tag(name, champion.version, "rolled_back_because", reason or "no reason given")
        target = client.get_model_version(name, before)
        _switch(client, target, {}, previous=target.tags.get("promoted_over") or None)
    return int(champion.version), int(before)


def _switch(client: MlflowClient, version: ModelVersion, tags: dict[str, str], *, previous: str | None) -> None:
    """Tags first, the one write that counts second: a promoter that dies in between has changed nothing."""
    for key, value in (tags | {"champion_since": str(int(time.time()))}).items():
        client.set_model_version_tag(version.name, version.version, key, value)
    client.set_registered_model_alias(version.name, "champion", version.version)
    if previous:
        client.set_registered_model_alias(version.name, "previous", previous)
    else:
        client.delete_registered_model_alias(version.name, "previous")


def champion_refusal(
    client: MlflowClient,
    version: ModelVersion,
    champion: ModelVersion | None,
    *,
    forced: bool,
    rescored: tuple[Scored, Scored] | None = None,
) -> str:
    """Why the version may not take over from the champion; "" when it may.

    It must have been verified and have the verdict SHIP, must not have been rolled back, and must pass against the
    champion the same test as against the base (lmadapt.verdict.judge): better in the domain, non-inferior in
    general ability as a whole and in each category, on the same items and at the version's own margins.
    """
    tags, objections = version.tags, []
    if tags.get("status") != "verified":
        return f"its status is {tags.get('status', 'not verified')}; only a version that loaded back equal serves"
    if forced or (champion and champion.version == version.version):
        return ""
    if tags.get("verdict") != "SHIP":
        objections.append(f"the verdict is {tags.get('verdict')}: {tags.get('verdict_reason')}")
    if because := tags.get("rolled_back_because"):
        objections.append(f"it was rolled back: {because}")
    if champion and not objections:
        objections.append(_not_better(client, version, champion, rescored))
    return "; ".join(filter(None, objections))


def _not_better(
    client: MlflowClient, version: ModelVersion, champion: ModelVersion, rescored: tuple[Scored, Scored] | None
) -> str:
    before, after = rescored or (read_scores(client, champion), read_scores(client, version))
    if not np.array_equal(before.ids, after.ids):
        return (
            f"version {champion.version}, the champion, answered other items; "
            f"`lmadapt promote {version.name}/{version.version}` puts these to it as well"
        )
    margins = read_lineage(client, version)["params"]["evaluate"]
    significance = margins["significance"]
    comparison = compare(
        before, after, margin=margins["margin"], category_margin=margins["category_margin"], significance=significance
    )
    verdict = judge(comparison, [], significance=significance)
    return "" if verdict.outcome == "SHIP" else f"against version {champion.version}, the champion: {verdict.reason}"


def read_scores(client: MlflowClient, version: ModelVersion) -> Scored:
    """What the adapted model of a version scored on each domain and general item, sorted by id."""
    with read_artifact(client, version, "predictions.parquet") as file:
        return scores_of(file)


def scores_of(predictions: Path, model: str = "adapted") -> Scored:
    """The scores of one model in a table of predictions."""
    table = pq.read_table(predictions).to_pandas()
    chosen = table[(table["model"] == model) & table["group"].isin(["domain", "general"])].sort_values("id")
    score = chosen["score" if "score" in chosen else "correct"].astype(float)
    ids: Any = chosen["id"].to_numpy(str)
    clusters = np.where(chosen["cluster"] == "", np.char.add("\0", ids), chosen["cluster"])
    return Scored(ids, chosen["group"].to_numpy(str), chosen["category"].to_numpy(str), clusters, score.to_numpy())
