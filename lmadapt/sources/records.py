"""Values of a record, and the sentence that stands in the place of one that cannot be read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmadapt.core.errors import UserError


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value that cannot be read; only those who need the value are told why."""

    problem: str  # what is wrong, as in "the column NAME <problem>"

    def __str__(self) -> str:
        return self.problem


TWICE = Unreadable("is named twice")
NOT_READ = Unreadable("is not read")


def parse_json(text: str) -> Any:
    """The value that JSON states; a key named twice, or a number too long, is Unreadable.

    Raises ValueError, which says what is wrong, where `text` is not JSON or is nested too deeply.
    """
    try:
        try:
            return json.loads(text, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            cure = "; put each record on a line of its own" if error.msg == "Extra data" else ""
            raise ValueError(f"{error.msg} at column {error.colno}{cure}") from None
        except ValueError:  # Python's limit on the digits of a number
            return json.loads(text, object_pairs_hook=_object, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                record[key] = TWICE
            seen.add(key)
    return record


def _whole_number(digits: str) -> int | Unreadable:
    try:
        return int(digits)
    except ValueError:
        return Unreadable(f"has a number of {len(digits.lstrip('-')):,} digits")


def problem_of(value: Any) -> str:
    """What is wrong with a value or with one inside it; "" when it is sound."""
    if isinstance(value, Unreadable):
        return value.problem
    if isinstance(value, dict):
        for key, own in value.items():
            if isinstance(own, Unreadable):
                return f"has {key!r}, which {own.problem}"
            if problem := problem_of(own):
                return problem
    if isinstance(value, list):
        return next(filter(None, map(problem_of, value)), "")
    return ""


def field_value(record: Mapping[str, Any], column: str, place: str) -> Any:
    """The value of a column that must be there; UserError where it is missing."""
    if column not in record:
        present = ", ".join(map(str, record)) or "none"
        raise UserError(f"{place}: column {column!r} is missing; present: {present}")
    return record[column]


def field_text(record: Mapping[str, Any], column: str, place: str) -> str:
    """The text in a column that must be there and hold text; else UserError."""
    value = field_value(record, column, place)
    if not isinstance(value, str):
        raise UserError(f"{place}: {column} must be text, got {value!r:.200}")
    return value


def parsed(value: Any, place: str) -> Any:
    """The value itself; of a text that is JSON, as CSV holds lists, what it says."""
    if not isinstance(value, str):
        return value
    try:
        found = parse_json(value)
    except ValueError:
        return value
    if problem := problem_of(found):
        raise UserError(f"{place} {problem}")
    return found
