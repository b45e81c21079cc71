"""What became of one raw document, by which rule and on what evidence, for a reader at a terminal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.core.tables import CURATED_TABLES, read_table

MAX_CHARACTERS = 2000  # shown of a text


def tell_story(name: str, raw: Path, curated: Path) -> Iterator[tuple[str, str]]:
    """Heading and text of each part of the story of the row with the id `name`.

    What a row says is shown as it was kept, with placeholders for personal data; of a dropped row, as it came. Raises
    UserError when there are no decisions, or none of that name; the message has the ids that contain it.
    """
    decisions = {row["id"]: row for row in _rows(curated / "decisions.parquet", name)}
    if name not in decisions:
        known = read_table(curated / "decisions.parquet", CURATED_TABLES["decisions"])[
            "id"
        ].to_pylist()
        near = [one for one in known if name in one][:5]
        raise UserError(
            f"{name!r}: no such document; {'ids like it: ' + ', '.join(near) if near else 'none is like it'}"
        )
    decision = decisions[name]
    fields = (
        "outcome",
        "rule",
        "evidence",
        "duplicate_of",
        "split",
        "role",
        "source",
        "location",
        "content_hash",
    )
    yield (
        "decision",
        "\n".join(f"{field}: {decision[field]}" for field in fields if decision[field]),
    )
    if decision["split"]:
        yield (
            f"as it stands in {decision['split']}",
            _text(curated / f"{decision['split']}.parquet", name),
        )
    elif decision["rule"] != "bad_record":
        yield "as it came", _text(raw / f"{decision['role']}.parquet", name)
    if other := decision["duplicate_of"]:
        (kept,) = _rows(curated / "decisions.parquet", other)
        yield f"kept instead: {other}", _text(raw / f"{kept['role']}.parquet", other)
    if decision["rule"] == "leak":
        item = decision["evidence"].partition(" of item ")[2].partition(": ")[0]
        yield f"the item it gives away: {item}", _text(raw / "evaluation.parquet", item)


def _rows(file: Path, name: str) -> list[dict[str, Any]]:
    if not file.is_file():
        raise UserError(f"{file}: no such file; `dvc repro curate` makes it")
    rows: list[dict[str, Any]] = pq.read_table(file, filters=[("id", "=", name)]).to_pylist()
    return rows


def _text(file: Path, name: str) -> str:
    row = next(iter(_rows(file, name)), {})
    text = row.get("text") or "\n".join(
        f"{m['role']}: {m['content']}" for m in row.get("messages") or ()
    )
    if "prompt" in row:
        text = "\n".join(
            [
                row["prompt"],
                *(f"- {choice}" for choice in row["choices"]),
                json.dumps(row["answer"]),
            ]
        )
    return text[:MAX_CHARACTERS] + ("…" if len(text) > MAX_CHARACTERS else "")
