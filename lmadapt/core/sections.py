"""Sections of params.yaml: immutable, without unknown keys, and with exact errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError

from lmadapt.core.errors import UserError, did_you_mean


class Section(BaseModel):
    """Base of every params class: it is frozen, refuses unknown keys and converts no types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


AnySection = TypeVar("AnySection", bound=Section)


def read_params(file: Path) -> CommentedMap:
    """Parse a params file and keep its line numbers and comments.

    Raises UserError, which names file and line, when the file is missing or is no YAML mapping.
    """
    try:
        content = YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; `lmadapt use demo-cpu` writes one") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{file}:{line}: not valid YAML: {error.problem}") from None
    if not isinstance(content, CommentedMap):
        found = type(content).__name__
        raise UserError(f"{file}: expected a mapping from stages to their settings, got {found}")
    return content


def load_section(kind: type[AnySection], name: str, file: Path) -> AnySection:
    """Read section `name` of `file` as `kind`.

    Raises UserError, which lists every problem with file, line, key, value and what is allowed.
    """
    return check_section(kind, name, read_params(file), str(file))


def check_section(
    kind: type[AnySection], name: str, params: Mapping[str, Any], source: str
) -> AnySection:
    """Return section `name` of `params` as `kind`; `source` is what errors call the params.

    Raises UserError as `load_section` does; lines are named where `params` was read from a file.
    """
    if name not in params:
        present = ", ".join(map(str, params))
        raise UserError(f"{source}: section `{name}` is missing; present: {present}")
    try:
        return kind.model_validate(plain(params[name]))
    except ValidationError as error:
        # Unknown keys come first: a misspelt key explains why another is missing.
        ordered = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        problems = [_explain(problem, name, params, kind, source) for problem in ordered]
        raise UserError("\n".join(problems)) from None


def plain(node: Any) -> Any:
    """Return the node as plain dicts, lists and scalars, without ruamel's wrappers."""
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    for scalar in (bool, int, float, str):
        if isinstance(node, scalar):
            return scalar(node)
    return node


def line_of(node: Any, keys: list[Any]) -> int | None:
    """Return the line, from 1, of the deepest of `keys` that the file has; None without a file."""
    line = None
    for key in keys:
        try:
            where = node.lc.key(key) if isinstance(node, CommentedMap) else node.lc.item(key)
            node = node[key]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
        line = where[0] + 1
    return line


def _explain(
    problem: Any, name: str, params: Mapping[str, Any], kind: type[Section], source: str
) -> str:
    keys = [name, *problem["loc"]]
    line = line_of(params, keys)
    place = f"{source}:{line}" if line else source
    place += f": {'.'.join(map(str, keys))}"
    if problem["type"] == "extra_forbidden":
        allowed = _fields_at(kind, problem["loc"][:-1])
        hint = did_you_mean(str(keys[-1]), allowed)
        return f"{place}: unknown key; {hint}allowed: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{place}: missing; every key must be given"
    return f"{place}: {problem['msg']}, got {problem['input']!r}"


def _fields_at(kind: type[Section], location: tuple[Any, ...]) -> list[str]:
    """Return the names allowed at a location inside a section, through nested sections."""
    for key in location:
        field = kind.model_fields.get(str(key))
        types = _types_in(field.annotation) if field else []
        kind = next((t for t in types if isinstance(t, type) and issubclass(t, Section)), kind)
    return list(kind.model_fields)


def _types_in(annotation: Any) -> list[Any]:
    types = [annotation]
    for argument in getattr(annotation, "__args__", ()):
        types += _types_in(argument)
    return types
