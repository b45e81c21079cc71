"""What an item scored in another program's evaluation, and what readers of such files share."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.sources.readers import read_records

NAMED = 3  # items named in a message; it also says how many there are


@dataclass(frozen=True)
class ItemScore:
    """The score of one answer to one item."""

    place: str  # FILE:LINE or FILE: TEST, for messages
    task: str
    id: str  # within its task
    content: str  # hash of question and right answer, or of the id where a file has neither
    category: str
    score: float  # from 0 to 1
    group: str = ""  # domain or general, where a file says it
    cluster: str = ""  # what the item is about; "" when it stands alone
    repeat: str = ""  # tells apart the answers to an item that was asked several times
    prompt: str = ""  # hash of all that the model was given; "" when a file has no prompt


@dataclass(frozen=True)
class Choice:
    """Which of the scores in a file are meant; "" leaves it to the format."""

    metric: str = ""  # metrics, scorers or a column, separated by commas: the first that a task has
    filter: str = ""  # of lm-evaluation-harness
    provider: str = ""  # of promptfoo: a provider, a prompt, or both as PROVIDER / PROMPT
    category: str = ""  # the field that holds an item's category
    cluster: str = ""  # the field that holds an item's cluster

    @property
    def metrics(self) -> list[str]:
        """The metrics, in order of preference."""
        return [name.strip() for name in self.metric.split(",") if name.strip()]


@dataclass(frozen=True)
class Results:
    """The scores of one model in one file or folder."""

    format: str
    items: list[ItemScore]
    scored_by: dict[str, str]  # by task: the metric, and what else chose the score
    notes: list[str] = field(default_factory=list)  # what a reader of the verdict must know


def read_rows(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Place (FILE:LINE) and record of each row of a .jsonl, .csv or .parquet file.

    Raises UserError naming file and line when a row cannot be read, or the file has none.
    """
    rows = list(_rows(file))
    if not rows:
        raise UserError(f"{file}: has no results")
    return rows


def first_row(file: Path) -> Mapping[str, Any]:
    """The first record of such a file. Raises UserError as `read_rows` does."""
    for _, record in _rows(file):
        return record
    raise UserError(f"{file}: has no results")


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for location, record in read_records(file, "text"):
        if isinstance(record, str):
            raise UserError(f"{file}:{location}: {record}")
        yield f"{file}:{location}", record


def content_hash(*parts: Any) -> str:
    """Hexadecimal SHA-256 of values that JSON can hold; the order of keys does not matter."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def checked_score(value: Any, place: str, metric: str) -> float:
    """The value as a score. Raises UserError unless it is a number (or truth) from 0 to 1."""
    if isinstance(value, (bool, int, float)) and 0 <= value <= 1:
        return float(value)
    raise UserError(f"{place}: {metric} is {value!r:.80}; allowed: a number from 0 to 1")


def text_field(record: Mapping[str, Any], name: str, place: str, option: str) -> str:
    """The field of a record as text; a dot leads into a field that is an object.

    Raises UserError when it is missing, empty or an object; `option` is what named the field.
    """
    value: Any = record
    for key in (name,) if name in record else name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None or value == "" or isinstance(value, (Mapping, list)):
        present = ", ".join(map(str, record)) or "none"
        raise UserError(f"{place}: {option} {name}: no such value; fields: {present:.200}")
    return str(value)


def one_metric(available: Iterable[str], choice: Choice, defaults: Iterable[str]) -> str | None:
    """The first of the chosen metrics, or of the defaults, that is available."""
    present = list(available)
    return next((name for name in choice.metrics or defaults if name in present), None)


def first_names(names: Iterable[str]) -> str:
    """The first names in quotes; `…` stands for the others."""
    listed = list(names)
    shown = ", ".join(repr(name) for name in listed[:NAMED])
    return f"{shown}, …" if len(listed) > NAMED else shown
