"""Which version serves: the aliases candidate, champion and previous, and who may be champion.

MLflow is imported only where the registry is asked through it: `settled_standing` reads a SQLite
registry directly, which saves the seconds of that import when there is nothing to do.
"""

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmadapt.core.errors import UserError
from lmadapt.registry.connection import reaching_registry
from lmadapt.registry.exam_ledger import EXPERIMENT, Ledger, ledger_in, read_ledger, record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from lmadapt.registry.succession import Asked

VERSION_OF_CONTENT = """
SELECT max(version) FROM model_version_tags
JOIN model_versions USING (workspace, name, version)
WHERE name = ? AND key = 'content_sha256' AND value = ? AND current_stage = 'None'
"""
TAGS = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
LEDGER = """
SELECT key, experiment_tags.value FROM experiment_tags JOIN experiments USING (experiment_id)
WHERE name = ? AND key LIKE ?
"""
ALIASES = "SELECT alias FROM registered_model_aliases WHERE name = ? AND version = ?"


@dataclass(frozen=True)
class Standing:
    """A version, the aliases that point to it, and why it is not champion ("" when it is)."""

    model_name: str
    version: int
    aliases: list[str]
    refusal: str
    ledger: Ledger | None = None  # of its exam; None for versions of releases without one


@dataclass(frozen=True)
class Opening:
    """What came out when the sealed part of the exam was opened for a version."""

    against: str  # number of the champion that was asked too; "" where it was the base
    refusal: str  # "" when the version passed


@reaching_registry()
def promote(
    client: "MlflowClient",
    version: "ModelVersion",
    *,
    candidate: bool = False,
    reason: str = "",
    asked: "Asked | None" = None,
    opening: Opening | None = None,
) -> Standing:
    """Make the version champion, and the champion before it `previous`, unless it is refused.

    `candidate` points that alias to the version in any case. A `reason` forces the promotion and
    is recorded. `asked` has the scores of versions that answered this one's items after their own
    evaluation (lmadapt.registry.rescoring), and `opening` what the sealed items said. Everything is
    read and written under the registry's lock, so that the second of two promoters is measured
    against the first; the alias is read again afterwards, in case someone moved it by hand.
    """
    from lmadapt.registry.anchor import keep_anchor
    from lmadapt.registry.lock import registry_lock
    from lmadapt.registry.versions import aliased_version

    name, number = version.name, version.version
    with registry_lock(client, name):
        if candidate:
            client.set_registered_model_alias(name, "candidate", number)
        version = client.get_model_version(name, number)
        champion = aliased_version(client, name, "champion")
        record(client, version, "judged")
        refusal = champion_refusal(client, version, champion, reason, asked)
        refusal = refusal or sealed_refusal(version, champion, reason, opening)
        if not refusal and (champion is None or champion.version != number):
            over = str(champion.version) if champion else ""
            tags = {"promoted_over": over, "forced_because": reason}
            _switch(client, version, tags, previous=over)
            keep_anchor(client, name)
        now = aliased_version(client, name, "champion")
        if not refusal and (now is None or now.version != number):
            winner = f"version {now.version}" if now else "no version"
            refusal = f"someone else made {winner} champion at the same time"
    aliases = client.get_registered_model(name).aliases
    mine = sorted(alias for alias, to in aliases.items() if int(to) == int(number))
    exam = version.tags.get("exam_sha256")
    ledger = read_ledger(client, exam) if exam else None
    return Standing(name, int(number), mine, refusal, ledger)


@reaching_registry()
def roll_back(client: "MlflowClient", name: str, reason: str) -> tuple[int, int]:
    """Give `champion` back to the version it was taken from; returns both, from and to.

    The version that loses it is tagged `rolled_back_because`, and is promoted again only by force.
    Raises UserError when there is no champion, or when there was none before it.
    """
    from lmadapt.registry.lock import registry_lock
    from lmadapt.registry.versions import aliased_version

    with registry_lock(client, name):
        champion = aliased_version(client, name, "champion")
        before = champion.tags.get("promoted_over") if champion else None
        if champion is None or not before:
            raise UserError(f"{name}: cannot roll back: no champion, or no champion before it")
        why = reason or "no reason given"
        client.set_model_version_tag(name, champion.version, "rolled_back_because", why)
        target = client.get_model_version(name, before)
        _switch(client, target, {}, previous=target.tags.get("promoted_over", ""))
    return int(champion.version), int(before)


def _switch(
    client: "MlflowClient", version: "ModelVersion", tags: dict[str, str], *, previous: str
) -> None:
    """Point champion to the version, tags first: a process that dies in between changes nothing."""
    for key, value in (tags | {"champion_since": str(int(time.time()))}).items():
        client.set_model_version_tag(version.name, version.version, key, value)
    client.set_registered_model_alias(version.name, "champion", version.version)
    if previous:
        client.set_registered_model_alias(version.name, "previous", previous)
    else:
        client.delete_registered_model_alias(version.name, "previous")


def champion_refusal(
    client: "MlflowClient",
    version: "ModelVersion",
    champion: "ModelVersion | None",
    reason: str = "",
    asked: "Asked | None" = None,
) -> str:
    """Why the version may not take over from the champion; "" when it may.

    It must be verified. Unless a `reason` forces it, it must also have the verdict SHIP and a
    commit and changes that git knew, must not have been rolled back, and must have been judged on
    the exam and under the margins that `lmadapt exam fix` fixed. It must pass the test of the
    verdict against the champion, and that of drift against the anchor
    (lmadapt.registry.succession).
    """
    tags = version.tags
    if tags.get("status") != "verified":
        status = tags.get("status", "not verified")
        return f"its status is {status}; only a version that loaded back equal may serve"
    if reason or (champion and champion.version == version.version):
        return ""
    if refusal := verdict_refusal(tags):
        return refusal
    if because := tags.get("rolled_back_because"):
        return f"it was rolled back: {because}"
    return succession_refusal(client, version, champion, asked or {})


def succession_refusal(
    client: "MlflowClient",
    version: "ModelVersion",
    champion: "ModelVersion | None",
    asked: "Asked",
) -> str:
    """Why what was fixed, the champion or the anchor forbid the version; "" when none does."""
    from lmadapt.registry.anchor import anchor_of
    from lmadapt.registry.fixed_exam import fixed_exam, fixed_exam_refusal
    from lmadapt.registry.succession import anchor_refusal, champion_test_refusal
    from lmadapt.registry.versions import read_lineage

    fixed = fixed_exam(client, version.name)
    if fixed and (refusal := fixed_exam_refusal(fixed, read_lineage(client, version))):
        return refusal
    if champion is None:
        return ""
    if refusal := champion_test_refusal(client, version, champion, asked):
        return refusal
    anchor = anchor_of(client, version.name)
    if anchor is None or anchor.version in (champion.version, version.version):
        return ""
    return anchor_refusal(client, version, anchor, asked)


def sealed_refusal(
    version: "ModelVersion",
    champion: "ModelVersion | None",
    reason: str,
    opening: Opening | None,
) -> str:
    """Why the sealed items forbid that a version becomes champion; "" when they do not."""
    count = int(version.tags.get("exam_sealed_items", 0))
    if not count or reason or (champion and champion.version == version.version):
        return ""
    if opening is None:
        return (
            f"its exam has {count:,} sealed items; `lmadapt promote {version.name}/"
            f"{version.version}` opens them"
        )
    if opening.against != (str(champion.version) if champion else ""):
        return "someone else changed the champion while the sealed items were asked"
    return opening.refusal


def verdict_refusal(tags: dict[str, str]) -> str:
    """Why the tags forbid to make a version champion; "" for SHIP and code that git knows."""
    verdict = tags.get("verdict")
    if verdict != "SHIP":
        return f"the verdict is {verdict}: {tags.get('verdict_reason')}"
    if tags.get("git_dirty") == "unknown":
        return f"nobody knows the code it was made with: {tags.get('git_problem')}"
    return ""


def settled_standing(
    tracking_uri: str, project: Path, model_name: str, content: str
) -> Standing | None:
    """The standing of the version of that content, if registering it again would change nothing.

    That is so for a verified version that is candidate, and is champion or refused by its verdict.
    None otherwise, and for a registry that is no SQLite file or lacks the tables of MLflow 3:
    then only MLflow can tell.
    """
    file = project / tracking_uri.removeprefix("sqlite:///")
    if not tracking_uri.startswith("sqlite:///") or not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            (number,) = database.execute(VERSION_OF_CONTENT, (model_name, content)).fetchone()
            tags = dict(database.execute(TAGS, (model_name, number)))
            aliases = sorted(alias for (alias,) in database.execute(ALIASES, (model_name, number)))
            exam = tags.get("exam_sha256", "")
            entries = dict(database.execute(LEDGER, (EXPERIMENT, f"%.{exam}.%")))
    except sqlite3.Error:
        return None
    refusal = "" if "champion" in aliases else verdict_refusal(tags)
    verified = tags.get("status") == "verified" and "candidate" in aliases
    settled = verified and ("champion" in aliases or refusal)
    ledger = ledger_in(entries, exam) if exam else None
    return Standing(model_name, int(number), aliases, refusal, ledger) if settled else None
