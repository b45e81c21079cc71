"""Data sources named in params.yaml, read row by row into the raw tables of five roles.

A source is a file, a folder, a hub data set or a module of the project.
"""

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.core.sections import Section
from lmadapt.core.tables import RAW_TABLES, read_groups, text_bytes, write_table
from lmadapt.sources.documents import Record
from lmadapt.sources.messages import read_messages
from lmadapt.sources.readers import read_records
from lmadapt.sources.records import field_text, field_value, parsed, problem_of

Role = Literal["corpus", "general_text", "instructions", "general_instructions", "evaluation"]
RawRow = dict[str, Any]  # a row of the raw table of its role
GROUPS = ("domain", "general", "behaviour", "fairness")
# The fields of Columns that the rows of a role are made of.
TEXT_FIELDS = ("text", "entity")
CHAT_FIELDS = ("messages", "question", "context", "answer", "category", "entity")
ITEM_FIELDS = (
    *("prompt", "choices", "answer", "check"),
    *("severity", "category", "entity", "group", "system", "subgroup"),
)
FIELDS: dict[Role, tuple[str, ...]] = {
    "corpus": TEXT_FIELDS,
    "general_text": TEXT_FIELDS,
    "instructions": CHAT_FIELDS,
    "general_instructions": CHAT_FIELDS,
    "evaluation": ITEM_FIELDS,
}
OPTIONAL_FIELDS = {"system": "", "subgroup": ""}  # of an item from a module
BYTE_ESCAPES = range(0xDC80, 0xDD00)  # how Python keeps a byte that it could not decode


class Columns(Section):
    """What our fields are called in a file; a field that is left out has our name there."""

    text: str = "text"
    messages: str = "messages"  # list of {role, content}, the last by the assistant
    question: str = "question"
    context: str = "context"  # appended to the question where present; Alpaca calls it input
    answer: str = "answer"
    system: str = "system"  # system message before the prompt
    prompt: str = "prompt"
    choices: str = "choices"
    check: str = "check"
    severity: str = "severity"
    subgroup: str = "subgroup"
    category: str = "category"
    entity: str = "entity"
    group: str = "group"


class Source(Section):
    """Where rows come from: exactly one of `path`, `hub` and `module`."""

    path: str | None = None  # a file or folder, relative to the project
    hub: str | None = None  # a data set id; needs revision and split
    module: str | None = None  # dotted name of a module of the project: one function a role
    revision: str | None = None  # of a hub data set: the commit to pin
    split: str | None = None
    name: str | None = None  # of a hub data set that has several configurations
    columns: Columns = Field(default_factory=Columns)
    constants: dict[str, Any] = Field(default_factory=dict)  # by field: its value in every row

    @model_validator(mode="after")
    def _one_origin(self) -> "Source":
        if sum(origin is not None for origin in (self.path, self.hub, self.module)) != 1:
            raise ValueError("give exactly one of path, hub and module")
        if self.hub and not (self.revision and self.split):
            raise ValueError("a hub data set needs revision (the commit to pin) and split")
        if not self.hub and (self.revision or self.split or self.name):
            raise ValueError("revision, split and name belong to hub data sets only")
        if self.module and self.columns != Columns():
            raise ValueError("a module gives our columns; leave `columns` out")
        unknown = self.constants.keys() - Columns.model_fields.keys()
        if unknown:
            raise ValueError(
                f"constants has {', '.join(sorted(unknown))}; allowed: "
                f"{', '.join(Columns.model_fields)}"
            )
        if self.module and self.constants:
            raise ValueError("a module gives every field; leave `constants` out")
        return self

    @property
    def title(self) -> str:
        """What rows call their source."""
        on_hub = ":".join(filter(None, (self.hub, self.name, self.split)))
        return self.path or (self.module or "").rpartition(".")[2] or on_hub


def require_one_role(sources: Mapping[Role, Sequence[Source]]) -> None:
    """Raise UserError when a source is named twice: a file or hub data set has one role."""
    roles: dict[str, Role] = {}
    for role, own in sources.items():
        for source in own:
            elsewhere = not source.module and roles.setdefault(source.title, role) != role
            if elsewhere or own.count(source) > 1:
                raise UserError(
                    f"fetch.sources.{role}: {source.title} is named twice; a source has one role"
                )


def read_role(
    role: Role, sources: Sequence[Source], packages: Mapping[str, str], bad: list[RawRow]
) -> Iterator[RawRow]:
    """Rows of all sources of a role; see `module_rows` for packages, `read_source` for bad."""
    for source in sources:
        if source.module:
            yield from module_rows(source.module, role, packages)
        else:
            yield from read_source(source, role, bad)


def write_raw_table(rows: Iterable[RawRow], role: Role, file: Path) -> dict[str, int]:
    """Write the raw table of a role; return its number of rows, and of UTF-8 bytes of text."""
    schema = RAW_TABLES[role]
    write_table(rows, schema, file)
    figures = {"rows": 0, "bytes": 0}
    for group in read_groups(file, schema):
        figures["rows"] += len(group)
        figures["bytes"] += text_bytes(group)
    return figures


def read_source(source: Source, role: Role, bad: list[RawRow]) -> Iterator[RawRow]:
    """Rows of a file, folder or hub data set for `role`, as in core.tables.RAW_TABLES.

    A record that cannot be read becomes a row of core.tables.BAD_RECORD in `bad`, for curation
    to count. An instruction without an answer passes, for curation to drop.

    Raises UserError naming file and line for a file that cannot be read to its end, for a source
    without any row, and for an instruction set in which no row has an answer. Raises Unavailable
    when the hub does not answer.
    """
    problem, completions, rows = "", 0, 0
    for location, record in _records(source, role):
        name = f"{source.title}/{location}"
        identity = {"id": name, "source": source.title, "location": location}
        try:
            row = _row(record, role, source, f"{source.title}:{location}")
        except UserError as error:
            said = str(error).encode("utf-8", "backslashreplace").decode()
            problem = problem or said
            bad.append({**identity, "role": role, "problem": said})
            continue
        rows += 1
        completions += "messages" not in row or bool(row["messages"][-1]["content"].strip())
        yield row | identity
    if rows == 0:
        raise UserError(problem or f"{source.title}: empty; role {role} needs at least one row")
    if completions == 0:
        raise UserError(f"{source.title}: no completions: the answer is empty in all {rows} rows")


def _row(record: Record, role: Role, source: Source, place: str) -> RawRow:
    if isinstance(record, str):
        raise UserError(f"{place}: {record}")
    try:
        _require_readable(record, role, source.columns, place)
        row = _convert(record, role, source, place)
    except RecursionError:
        raise UserError(f"{place}: nested too deeply") from None
    problem = next(filter(None, map(_encoding_problem, row.values())), "")
    if problem:
        # The record's own columns may be sound: JSON in a column of CSV hides its escapes.
        broken = [name for name, value in record.items() if _encoding_problem(value)]
        raise UserError(f"{place}: column {[*broken, 'messages'][0]!r} has {problem}")
    return row


def _require_readable(record: Mapping[str, Any], role: Role, columns: Columns, place: str) -> None:
    for field in FIELDS[role]:
        column = getattr(columns, field)
        if problem := problem_of(record.get(column)):
            raise UserError(f"{place}: column {column!r} {problem}")


def _convert(record: Mapping[str, Any], role: Role, source: Source, place: str) -> RawRow:
    same = {getattr(source.columns, name): value for name, value in source.constants.items()}
    record = {**record, **same}
    if role in ("corpus", "general_text"):
        return _document(record, source, place)
    if role in ("instructions", "general_instructions"):
        return _instruction(record, source, place)
    return _item(record, source, place)


def module_rows(module: str, role: Role, packages: Mapping[str, str]) -> Iterator[RawRow]:
    """Rows of the function named `role` in a Python module; it gets `packages`, fetch.packages.

    Its rows have the columns of core.tables.RAW_TABLES, except that `location`, unique within
    module and role, stands for `id` and `source`; items may leave out `system` and `subgroup`.
    Raises UserError when the project has no such
    module, or the module has no such function.
    """
    try:
        offered = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"fetch.sources.{role}: the project has no module {module!r}: {error}"
        ) from None
    roles = [known for known in get_args(Role) if hasattr(offered, known)]
    if role not in roles:
        raise UserError(
            f"fetch.sources.{role}: module {module!r} has no {role}; "
            f"it offers: {', '.join(roles) or 'nothing'}"
        )
    name = module.rpartition(".")[2]
    for row in getattr(offered, role)(packages):
        location = f"{role}/{row.pop('location')}"
        optional = OPTIONAL_FIELDS if role == "evaluation" else {}
        identity = {"source": name, "location": location}
        yield {"id": f"{name}/{location}", **optional, **row, **identity}


def _records(source: Source, role: Role) -> Iterator[tuple[str, Record]]:
    if source.hub:
        return _hub_records(source)
    wanted = {getattr(source.columns, field) for field in FIELDS[role]}
    return read_records(Path(source.path or ""), source.columns.text, wanted)


def _hub_records(source: Source) -> Iterator[tuple[str, Record]]:
    import datasets

    try:
        pinned = {"split": source.split, "revision": source.revision}
        rows = datasets.load_dataset(source.hub, source.name, **pinned, streaming=True)
        for number, record in enumerate(rows):
            yield str(number), record
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UserError(f"{source.title}: the hub has no such data set: {error}") from None
    except ConnectionError as error:
        raise Unavailable(f"{source.title}: the hub cannot be reached: {error}") from None
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{source.title}: {error}") from None


def _encoding_problem(value: Any) -> str:
    """What UTF-8 cannot hold in a value; "" if it can hold all of it.

    That is a byte that was not UTF-8, or half a character, such as "\\ud83d" alone.
    """
    text = value
    if not isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        if code in BYTE_ESCAPES:
            return f"the byte 0x{code - 0xDC00:02x}, which is not UTF-8"
        return f"half a character, \\u{code:04x}"
    return ""


def _optional(
    record: Mapping[str, Any], columns: Columns, field: str, default: str, place: str
) -> str:
    """A field that a row may leave empty; its column may be missing unless `columns` names it."""
    column: str = getattr(columns, field)
    may_miss = column in record or field not in columns.model_fields_set
    if record.get(column) in (None, "") and may_miss:
        return default
    return field_text(record, column, place)


def _document(record: Mapping[str, Any], source: Source, place: str) -> RawRow:
    columns = source.columns
    return {
        "text": field_text(record, columns.text, place),
        "entity": _optional(record, columns, "entity", "", place),
    }


def _instruction(record: Mapping[str, Any], source: Source, place: str) -> RawRow:
    columns = source.columns
    if columns.messages in record or "messages" in columns.model_fields_set:
        messages = read_messages(
            field_value(record, columns.messages, place), columns.messages, place
        )
    else:
        context = _optional(record, columns, "context", "", place)
        question = "\n\n".join(filter(None, (field_text(record, columns.question, place), context)))
        answer = field_text(record, columns.answer, place)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {
        "messages": messages,
        "category": _optional(record, columns, "category", source.title, place),
        "entity": _optional(record, columns, "entity", "", place),
    }


def _item(record: Mapping[str, Any], source: Source, place: str) -> RawRow:
    columns = source.columns
    row: RawRow = {
        "prompt": field_text(record, columns.prompt, place),
        "category": _optional(record, columns, "category", source.title, place),
        "cluster": _optional(record, columns, "entity", "", place),
        "system": _optional(record, columns, "system", "", place),
        "subgroup": _optional(record, columns, "subgroup", "", place),
    }
    checked = bool(record.get(columns.check))
    group = _optional(record, columns, "group", "behaviour" if checked else "domain", place)
    if group not in GROUPS:
        raise UserError(f"{place}: {columns.group} is {group!r}; allowed: {', '.join(GROUPS)}")
    row |= {"group": group, "choices": [], "answer": None, "check": "", "severity": ""}
    if checked:
        row["check"] = _check(record[columns.check], f"{place}: {columns.check}")
        if group == "behaviour":
            row["severity"] = _optional(record, columns, "severity", "major", place)
        return row
    choices = _choices(field_value(record, columns.choices, place), f"{place}: {columns.choices}")
    if group == "fairness" and record.get(columns.answer) in (None, ""):
        return row | {"choices": choices}
    answer = _answer(
        field_value(record, columns.answer, place), choices, f"{place}: {columns.answer}"
    )
    return row | {"choices": choices, "answer": answer}


def _check(value: Any, place: str) -> str:
    check = parsed(value, place)
    if not isinstance(check, dict) or "kind" not in check:
        raise UserError(f"{place} must be a JSON object with a kind, got {check!r}")
    # A struct column of Parquet has the keys of all kinds, null where a check has none.
    given = {key: own for key, own in check.items() if own is not None}
    return json.dumps(given, sort_keys=True)


def _choices(value: Any, place: str) -> list[str]:
    choices = parsed(value, place)
    texts = isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
    if not texts or len(choices) < 2:
        raise UserError(f"{place} must be a list of at least two texts, got {choices!r}")
    return list(choices)


def _answer(value: Any, choices: list[str], place: str) -> int:
    """Index of the right choice, given as its text or its index from 0."""
    if value in choices:
        return choices.index(value)
    index = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(index, float) and index.is_integer():
        index = int(index)  # pandas writes integers of a column with gaps as 1.0
    if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(choices):
        return index
    raise UserError(
        f"{place} is {value!r}, which is none of the choices {choices!r} and not an index into them"
    )
