"""Where a version stands in the registry, and a look at a SQLite one that spares the seconds of importing MLflow."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Standing:
    """A version, the aliases that point to it, and why it did not become champion ("" when it is)."""

    model_name: str
    version: int
    aliases: list[str]
    refusal: str


def held_back(tags: dict[str, str]) -> str:
    """Why a version with such tags may not become champion whatever the present one is; "" when it may."""
    return (
        ""
        if tags.get("verdict") == "SHIP"
        else f"the verdict is {tags.get('verdict')}: {tags.get('verdict_reason')}"
    )


def unchanged_standing(
    tracking_uri: str, project: Path, model_name: str, content: str
) -> Standing | None:
    """The standing of the version of that content where registering it again would change nothing, else None.

    That is so for a verified version that is candidate, and champion or held back by its verdict. None too for a
    registry that is no SQLite file, or has not the tables of MLflow 3: then MLflow itself is to be asked.
    """
    file = project / tracking_uri.removeprefix("sqlite:///")
    if not tracking_uri.startswith("sqlite:///") or not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute(
                "SELECT max(version) FROM model_version_tags JOIN model_versions USING (workspace, name, version) "
                "WHERE name = ? AND key = 'content_sha256' AND value = ? AND current_stage = 'None'",
                (model_name, content),
            ).fetchone()
            version = (model_name, found[0])
            tags = dict(
                database.execute(
                    "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?",
                    version,
                )
            )
            aliases = sorted(
                alias
                for (alias,) in database.execute(
                    "SELECT alias FROM registered_model_aliases WHERE name = ? AND version = ?",
                    version,
                )
            )
    except sqlite3.Error:
        return None
    refusal = "" if "champion" in aliases else held_back(tags)
    settled = (
        tags.get("status") == "verified"
        and "candidate" in aliases
        and ("champion" in aliases or refusal)
    )
    return Standing(model_name, int(found[0]), aliases, refusal) if settled else None
