"""Data sources named in params.yaml: files, folders and hub data sets, read row by row into the raw tables."""

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.core.sections import Section
from lmadapt.sources.readers import Record, read_records

Role = Literal["corpus", "general_text", "instructions", "general_instructions", "evaluation"]
Row = dict[str, Any]
GROUPS = ("domain", "general", "behaviour", "fairness")


class Columns(Section):
    """What our fields are called in a file; a field that is not named has its own name there."""

    text: str = "text"
    messages: str = "messages"  # list of {role, content}, the last by the assistant
    question: str = "question"
    context: str = "context"  # appended to the question where present; Alpaca calls it input
    answer: str = "answer"
    prompt: str = "prompt"
    choices: str = "choices"
    check: str = "check"
    severity: str = "severity"
    category: str = "category"
    entity: str = "entity"
    group: str = "group"


class Source(Section):
    """Where rows come from: exactly one of `path`, `hub` and `module`."""

    path: str | None = None  # a file or folder, relative to the project
    hub: str | None = (
        None  # a data set id, with revision and split, and name where it has configurations
    )
    module: str | None = None  # Python of the project, by its dotted name: one function a role
    revision: str | None = None
    split: str | None = None
    name: str | None = None
    columns: Columns = Field(default_factory=Columns)

    @model_validator(mode="after")
    def _one_origin(self) -> "Source":
        if sum(origin is not None for origin in (self.path, self.hub, self.module)) != 1:
            raise ValueError("give exactly one of path, hub and module")
        if self.hub and not (self.revision and self.split):
            raise ValueError("a hub data set needs revision (the commit to pin) and split")
        if not self.hub and (self.revision or self.split or self.name):
            raise ValueError("revision, split and name belong to hub data sets only")
        if self.module and self.columns != Columns():
            raise ValueError("a module gives our columns; there are none to name")
        return self

    @property
    def title(self) -> str:
        """What rows call their source."""
        on_hub = ":".join(filter(None, (self.hub, self.name, self.split)))
        return self.path or (self.module or "").rpartition(".")[2] or on_hub


def read_source(source: Source, role: Role, bad: list[Row]) -> Iterator[Row]:
    """Rows of a file, folder or hub data set for `role`, as in records.RAW_TABLES.

    A record that cannot be read becomes a row of records.BAD_RECORD in `bad`, for curation to count. Raises UserError
    naming file and line for a file that cannot be read on, one without any row, and where no row of an instruction set
    has a completion; single rows without one pass with an empty answer, for curation to drop. Raises Unavailable when
    the hub does not answer.
    """
    problem, completions, rows = "", 0, 0
    for location, record in _records(source):
        identity = {
            "id": f"{source.title}/{location}",
            "source": source.title,
            "location": location,
        }
        try:
            row = _row(record, role, source, f"{source.title}:{location}")
        except UserError as error:
            problem = problem or str(error)
            bad.append({**identity, "role": role, "problem": str(error)})
            continue
        rows += 1
        completions += "messages" not in row or bool(row["messages"][-1]["content"].strip())
        yield row | identity
    if rows == 0:
        raise UserError(problem or f"{source.title}: empty, there are no rows for {role}")
    if completions == 0:
        raise UserError(f"{source.title}: no completions: the answer is empty in all {rows} rows")


def _row(record: Record, role: Role, source: Source, place: str) -> Row:
    if isinstance(record, str):
        raise UserError(f"{place}: {record}")
    row: Row = _CONVERT[role](record, source, place)
    if half := next(filter(None, map(_half_character, row.values())), ""):
        column = next(
            (name for name, value in record.items() if _half_character(value)), "messages"
        )
        raise UserError(f"{place}: column {column!r} has {half}")
    return row


def module_rows(module: str, role: Role, packages: Mapping[str, str]) -> Iterator[Row]:
    """Rows of a Python module's function named like `role`, which is given `packages`: fetch.packages as it stands.

    Its rows have the columns of records.RAW_TABLES, but `location` (unique in module and role) instead of `id` and
    `source`. Raises UserError when the module is not there or has nothing for the role.
    """
    try:
        offered = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"fetch.sources.{role}: no module {module!r} in the project: {error}"
        ) from None
    roles = [known for known in get_args(Role) if hasattr(offered, known)]
    if role not in roles:
        raise UserError(
            f"fetch.sources.{role}: module {module!r} has no {role}; it offers: {', '.join(roles) or None}"
        )
    name = module.rpartition(".")[2]
    for row in getattr(offered, role)(packages):
        location = f"{role}/{row.pop('location')}"
        yield {"id": f"{name}/{location}", **row, "source": name, "location": location}


def _records(source: Source) -> Iterator[tuple[str, Record]]:
    return (
        _hub_records(source)
        if source.hub
        else read_records(Path(source.path or ""), source.columns.text)
    )


def _hub_records(source: Source) -> Iterator[tuple[str, Record]]:
    import datasets

    try:
        pinned = {"split": source.split, "revision": source.revision}
        rows = datasets.load_dataset(source.hub, source.name, **pinned, streaming=True)
        for number, record in enumerate(rows):
            yield str(number), record
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UserError(f"{source.title}: no such data set on the hub: {error}") from None
    except ConnectionError as error:
        raise Unavailable(f"{source.title}: the hub cannot be reached: {error}") from None
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{source.title}: {error}") from None


def _half_character(value: Any) -> str:
    """What no table can hold: a byte that is no UTF-8, or "\\ud83d" without its other half; "" where there is none."""
    try:
        (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        ).encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        byte = 0xDC80 <= code < 0xDD00  # how Python keeps a byte it could not decode
        return (
            f"the byte 0x{code - 0xDC00:02x}, which is no UTF-8"
            if byte
            else f"half a character, \\u{code:04x}"
        )
    return ""


def _field(record: Mapping[str, Any], column: str, place: str) -> Any:
    if column not in record:
        raise UserError(
            f"{place}: column {column!r} is missing; present: {', '.join(map(str, record)) or 'none'}"
        )
    return record[column]


def _text(record: Mapping[str, Any], column: str, place: str) -> str:
    value = _field(record, column, place)
    if not isinstance(value, str):
        raise UserError(f"{place}: {column} must be text, got {value!r}")
    return value


def _optional(
    record: Mapping[str, Any], columns: Columns, field: str, default: str, place: str
) -> str:
    """A field that rows may leave empty, and without, unless `columns` names it."""
    column: str = getattr(columns, field)
    if record.get(column) in (None, "") and (
        column in record or field not in columns.model_fields_set
    ):
        return default
    return _text(record, column, place)


def _document(record: Mapping[str, Any], source: Source, place: str) -> Row:
    columns = source.columns
    return {
        "text": _text(record, columns.text, place),
        "entity": _optional(record, columns, "entity", "", place),
    }


def _instruction(record: Mapping[str, Any], source: Source, place: str) -> Row:
    columns = source.columns
    if columns.messages in record or "messages" in columns.model_fields_set:
        messages = _messages(_field(record, columns.messages, place), columns.messages, place)
    else:
        context = _optional(record, columns, "context", "", place)
        question = "\n\n".join(filter(None, (_text(record, columns.question, place), context)))
        answer = _text(record, columns.answer, place)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {
        "messages": messages,
        "category": _optional(record, columns, "category", source.title, place),
        "entity": _optional(record, columns, "entity", "", place),
    }


def _messages(value: Any, column: str, place: str) -> list[dict[str, str]]:
    value = _parsed(value)
    if not isinstance(value, list) or not value:
        raise UserError(
            f"{place}: {column} must be a list of messages with role and content, got {value!r}"
        )
    messages = []
    for turn, message in enumerate(value):
        if not isinstance(message, dict):
            raise UserError(
                f"{place}: {column}[{turn}] must have role and content, got {message!r}"
            )
        here = f"{place}: {column}[{turn}]"
        role, content = _text(message, "role", here), _text(message, "content", here)
        if role not in ("user", "assistant") and (role != "system" or turn):
            raise UserError(
                f"{here}: role {role!r}; allowed: user, assistant, and in the first message system"
            )
        messages.append({"role": role, "content": content})
    if messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    return messages


def _parsed(value: Any) -> Any:
    """A value that CSV can only hold as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _item(record: Mapping[str, Any], source: Source, place: str) -> Row:
    columns = source.columns
    row: Row = {
        "prompt": _text(record, columns.prompt, place),
        "category": _optional(record, columns, "category", source.title, place),
        "cluster": _optional(record, columns, "entity", "", place),
    }
    checked = bool(record.get(columns.check))
    group = _optional(record, columns, "group", "behaviour" if checked else "domain", place)
    if group not in GROUPS:
        raise UserError(f"{place}: {columns.group} is {group!r}; allowed: {', '.join(GROUPS)}")
    row = row | {"group": group, "choices": [], "answer": None, "check": "", "severity": ""}
    if checked:
        check = _parsed(record[columns.check])
        if not isinstance(check, dict) or "kind" not in check:
            raise UserError(
                f"{place}: {columns.check} must be a JSON object with a kind, got {check!r}"
            )
        severity = (
            _optional(record, columns, "severity", "major", place) if group == "behaviour" else ""
        )
        return row | {"check": json.dumps(check, sort_keys=True), "severity": severity}
    choices = _parsed(_field(record, columns.choices, place))
    if (
        not isinstance(choices, list)
        or len(choices) < 2
        or not all(isinstance(choice, str) for choice in choices)
    ):
        raise UserError(
            f"{place}: {columns.choices} must be a list of at least two texts, got {choices!r}"
        )
    if group == "fairness":
        return row | {"choices": choices}
    answer = _answer(_field(record, columns.answer, place), choices, f"{place}: {columns.answer}")
    return row | {"choices": choices, "answer": answer}


def _answer(value: Any, choices: list[str], place: str) -> int:
    """Index of the right choice, given as its text or its index from 0."""
    if value in choices:
        return choices.index(value)
    index = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(index, float) and index.is_integer():
        index = int(index)  # as pandas writes whole numbers of a column with gaps
    if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(choices):
        return index
    raise UserError(
        f"{place} is {value!r}, which is none of the choices {choices!r} nor an index into them"
    )


_CONVERT = dict(
    zip(get_args(Role), (_document, _document, _instruction, _instruction, _item), strict=True)
)
