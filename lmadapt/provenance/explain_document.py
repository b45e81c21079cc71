"""Tells what curation did with one raw document, by which rule and on what evidence."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.core.tables import CURATED_TABLES, read_table

MAX_CHARACTERS = 2000  # shown of a text
MAX_SUGGESTIONS = 5
DECISION_FIELDS = (
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


def explain_document(document: str, raw: Path, curated: Path) -> Iterator[tuple[str, str]]:
    """Heading and text of each part of the answer, for the document with the id `document`.

    A kept document is shown as it was written, with placeholders for personal data; a dropped
    one as it was read. `raw` and `curated` are the folders of the stages. Raises UserError when
    there are no decisions or none with that id; the message names ids that contain it.
    """
    decision = _decision(document, curated / "decisions.parquet")
    shown = [f"{field}: {decision[field]}" for field in DECISION_FIELDS if decision[field]]
    yield "decision", "\n".join(shown)
    if table := decision["split"]:
        yield f"as written to {table}", _text(curated / f"{table}.parquet", document)
    elif decision["rule"] != "bad_record":
        yield "as read", _text(raw / f"{decision['role']}.parquet", document)
    if other := decision["duplicate_of"]:
        (kept,) = _rows(curated / "decisions.parquet", other)
        yield f"kept instead: {other}", _text(raw / f"{kept['role']}.parquet", other)
    if decision["rule"] == "leak":
        item = decision["evidence"].partition(" of item ")[2].partition(": ")[0]
        yield f"the item it gives away: {item}", _text(raw / "evaluation.parquet", item)


def _decision(document: str, decisions: Path) -> dict[str, Any]:
    if rows := _rows(decisions, document):
        return rows[-1]
    known = read_table(decisions, CURATED_TABLES["decisions"])["id"].to_pylist()
    similar = [one for one in known if document in one][:MAX_SUGGESTIONS]
    hint = f"similar ids: {', '.join(similar)}" if similar else "no id contains it"
    raise UserError(f"{document!r}: no such document in {decisions}; {hint}")


def _rows(file: Path, document: str) -> list[dict[str, Any]]:
    if not file.is_file():
        raise UserError(f"{file}: no such file; `dvc repro curate` makes it")
    rows: list[dict[str, Any]] = pq.read_table(file, filters=[("id", "=", document)]).to_pylist()
    return rows


def _text(file: Path, document: str) -> str:
    """The text of a row of any table, at most MAX_CHARACTERS of it."""
    rows = _rows(file, document)
    text = _row_text(rows[0]) if rows else ""
    return text[:MAX_CHARACTERS] + ("…" if len(text) > MAX_CHARACTERS else "")


def _row_text(row: dict[str, Any]) -> str:
    if "prompt" in row:
        choices = [f"- {choice}" for choice in row["choices"]]
        return "\n".join([row["prompt"], *choices, json.dumps(row["answer"])])
    if row.get("text"):
        return str(row["text"])
    messages = row.get("messages") or ()
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
