"""Reads what each item scored, from the files of other evaluation programs or a plain table."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError, did_you_mean
from lmadapt.sources.inspect_results import read_inspect
from lmadapt.sources.item_scores import (
    Choice,
    ItemScore,
    Results,
    checked_score,
    content_hash,
    first_row,
    read_rows,
    text_field,
)
from lmadapt.sources.lm_eval_results import SAMPLES, read_lm_eval
from lmadapt.sources.promptfoo_results import read_promptfoo

HEAD_BYTES = 10_000  # of a .json file, within which its first keys stand
GROUPS = ("domain", "general")
ALLOWED = (
    f"{SAMPLES} of lm-evaluation-harness (--log_samples) or their folder, .eval and .json logs of "
    "Inspect, .json and .jsonl results of promptfoo, or a .jsonl, .csv or .parquet table with the "
    "columns id and score"
)


def read_table(path: Path, choice: Choice) -> Results:
    """The scores in a table: columns id and score, and where they are: group, category, cluster.

    Rows with the same id and different values of a column `repeat` are answers to one item.
    Raises UserError naming file, line and value.
    """
    column = choice.metric or "score"
    items = [_table_item(place, row, column, choice) for place, row in read_rows(path)]
    return Results("table", items, {"": column})


READERS = {
    "lm-eval": read_lm_eval,
    "inspect": read_inspect,
    "promptfoo": read_promptfoo,
    "table": read_table,
}


def read_results(path: Path, format: str, choice: Choice) -> Results:
    """The scores in a file or folder. `format` is a key of READERS; "" finds it by the content.

    Raises UserError naming the file, what is wrong, and what is allowed.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; allowed: {ALLOWED}")
    if format and format not in READERS:
        raise UserError(
            f"--format {format}: {did_you_mean(format, READERS)}allowed: {', '.join(READERS)}"
        )
    try:
        format = format or recognise(path)
        _require_used(format, choice)
        return READERS[format](path, choice)
    except (KeyError, TypeError, AttributeError, ValueError, zipfile.BadZipFile) as error:
        problem = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: not as its format has it ({problem:.200})") from error


def _require_used(format: str, choice: Choice) -> None:
    for option, value, user in (
        ("--filter", choice.filter, "lm-eval"),
        ("--before-provider and --after-provider", choice.provider, "promptfoo"),
    ):
        if value and format != user:
            raise UserError(f"{option}: only for results of {user}; these have the format {format}")


def recognise(path: Path) -> str:
    """The format of a file or folder, by its content. Raises UserError when it is none of ours."""
    found = ""
    if path.is_dir():
        found = "lm-eval" if any(path.rglob(SAMPLES)) else ""
        if not found and (any(path.rglob("*.eval")) or any(path.rglob("*.json"))):
            found = "inspect"
    elif zipfile.is_zipfile(path):
        found = "inspect"
    elif path.suffix == ".json":
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        if b'"evalId"' in head or b'"testIdx"' in head:
            found = "promptfoo"
        elif b'"eval"' in head and b'"status"' in head:
            found = "inspect"
    else:
        found = _kind_of_row(first_row(path))
    if not found:
        raise UserError(f"{path}: format not recognised; allowed: {ALLOWED}")
    return found


def _kind_of_row(row: Mapping[str, Any]) -> str:
    if {"doc_id", "doc"} <= row.keys():
        return "lm-eval"
    return "promptfoo" if {"testIdx", "testCase"} <= row.keys() else "table"


def _table_item(place: str, row: Mapping[str, Any], column: str, choice: Choice) -> ItemScore:
    name = text_field(row, "id", place, "column")
    group = str(row.get("group") or "")
    if group and group not in GROUPS:
        raise UserError(f"{place}: group is {group!r}; allowed: {', '.join(GROUPS)}")
    category = str(row.get("category") or "all")
    if choice.category:
        category = text_field(row, choice.category, place, "--category")
    cluster = str(row.get("cluster") or "")
    if choice.cluster:
        cluster = text_field(row, choice.cluster, place, "--cluster")
    return ItemScore(
        place=place,
        task="",
        id=name,
        content=content_hash(name),
        category=category,
        score=checked_score(_number(row.get(column)), place, column),
        group=group,
        cluster=cluster,
        repeat=str(row.get("repeat") or ""),
    )


def _number(value: Any) -> Any:
    """A cell of a CSV file as a number; what is none stays, to be named in a message."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
