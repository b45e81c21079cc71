"""Which version serves: the aliases candidate, champion and previous, and the test a champion must pass."""

import time
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.core.errors import UserError
from lmadapt.registry.lock import registry_lock
from lmadapt.registry.standing import Standing, held_back
from lmadapt.registry.versions import aliased_version, reaching, read_artifact, read_lineage
from lmadapt.verdict.decision import Scored, compare, judge


@reaching()
def promote(
    client: MlflowClient,
    version: ModelVersion,
    *,
    candidate: bool = False,
    reason: str = "",
    before: Any = None,
) -> Standing:
    """Make the version champion, and the champion before it `previous`, if `champion_refusal` has no objection.

    `candidate` gives it that alias in any case; a `reason` forces the promotion and is recorded; `before` is what the
    champion scored on the version's items, where its own were others. All is read and written under the registry's
    lock, so that of two promoters the second is measured against the first, and the alias is read again afterwards.
    """
    name, number = version.name, version.version
    with registry_lock(client, name):
        if candidate:
            client.set_registered_model_alias(name, "candidate", number)
        version, champion = (
            client.get_model_version(name, number),
            aliased_version(client, name, "champion"),
        )
        refusal = champion_refusal(client, version, champion, reason, before)
        if not refusal and (champion is None or champion.version != number):
            over = champion.version if champion else ""
            _switch(
                client,
                version,
                {"promoted_over": str(over), "forced_because": reason},
                previous=str(over),
            )
        now = aliased_version(client, name, "champion")
        if not refusal and (now is None or now.version != number):
            refusal = f"version {now.version if now else 'none'} was made champion by someone else at the same time"
    aliases = client.get_registered_model(name).aliases
    return Standing(
        name,
        int(number),
        sorted(one for one, to in aliases.items() if int(to) == int(number)),
        refusal,
    )


@reaching()
def roll_back(client: MlflowClient, name: str, reason: str) -> tuple[int, int]:
    """Give `champion` back to the version it was taken from; returns both versions, from and to.

    What is left is tagged `rolled_back_because`, and not promoted again unless forced. Raises UserError when there
    is no champion, or it had none before it.
    """
    with registry_lock(client, name):
        champion = aliased_version(client, name, "champion")
        before = champion.tags.get("promoted_over") if champion else None
        if champion is None or not before:
            raise UserError(f"{name}: there is no champion, or none before it, to go back to")
        client.set_model_version_tag(
            name, champion.version, "rolled_back_because", reason or "no reason given"
        )
        target = client.get_model_version(name, before)
        _switch(client, target, {}, previous=target.tags.get("promoted_over", ""))
    return int(champion.version), int(before)


def _switch(
    client: MlflowClient, version: ModelVersion, tags: dict[str, str], *, previous: str
) -> None:
    """Tags first, then the one write that counts: a promoter that dies in between has changed nothing."""
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
    reason: str = "",
    before: Any = None,
) -> str:
    """Why the version may not take over from the champion; "" when it may.

    It must have been verified, and unless there is a `reason` to force it, have the verdict SHIP, not have been rolled
    back, and pass against the champion the same test as against the base (lmadapt.verdict.decision.judge): better in the
    domain, non-inferior in general ability as a whole and in each category, on the same items, at its own margins.
    """
    tags = version.tags
    if tags.get("status") != "verified":
        return f"its status is {tags.get('status', 'not verified')}; only a version that loaded back equal serves"
    if reason or (champion and champion.version == version.version):
        return ""
    if refusal := held_back(tags):
        return refusal
    if because := tags.get("rolled_back_because"):
        return f"it was rolled back: {because}"
    return _not_better(client, version, champion, before) if champion else ""


def _not_better(
    client: MlflowClient, version: ModelVersion, champion: ModelVersion, before: Scored | None
) -> str:
    before, after = before or read_scores(client, champion), read_scores(client, version)
    if before is None or after is None or not np.array_equal(before.ids, after.ids):
        answer = f"`lmadapt promote {version.name}/{version.version}` puts these to it as well"
        return f"version {champion.version}, the champion, answered other items; {answer}"
    settings = read_lineage(client, version)["params"]["evaluate"]
    limits = {name: settings[name] for name in ("margin", "category_margin", "significance")}
    verdict = judge(compare(before, after, **limits), [], significance=limits["significance"])
    return (
        ""
        if verdict.outcome == "SHIP"
        else f"against version {champion.version}, the champion: {verdict.reason}"
    )


def read_scores(client: MlflowClient, version: ModelVersion) -> Scored | None:
    """What the adapted model of a version scored on each domain and general item, sorted by id; None if not kept."""
    if "predictions.parquet" not in {file.path for file in client.list_artifacts(version.run_id)}:
        return None
    with read_artifact(client, version, "predictions.parquet") as file:
        table = pq.read_table(file).to_pandas()
    chosen = table[
        (table["model"] == "adapted") & table["group"].isin(["domain", "general"])
    ].sort_values("id")
    score = chosen["score"].to_numpy(float)
    ids, groups, categories, clusters = (
        chosen[key].to_numpy(str) for key in ("id", "group", "category", "cluster")
    )
    return Scored(
        ids, groups, categories, np.where(clusters == "", np.char.add("\0", ids), clusters), score
    )
