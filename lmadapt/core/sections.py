"""Sections of params.yaml: strict, frozen, and precise about what is wrong where."""

import difflib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError

from lmadapt.core.errors import UserError


class Section(BaseModel):
    """Base of every params class: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


AnySection = TypeVar("AnySection", bound=Section)


def read_params(file: Path) -> CommentedMap:
    """Parse a params file, keeping line numbers.

    Raises UserError naming file and line when the file is missing or is no YAML mapping.
    """
    try:
        content = YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; `lmadapt use demo-cpu` writes one") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{file}:{line}: not valid YAML: {error.problem}") from None
    if not isinstance(content, CommentedMap):
        raise UserError(
            f"{file}: expected a mapping of stage names to their settings, got {type(content).__name__}"
        )
    return content


def load_section(kind: type[AnySection], name: str, file: Path) -> AnySection:
    """Read section `name` of `file` as `kind`.

    Raises UserError listing every problem with file, line, key, value and what is allowed.
    """
    params = read_params(file)
    if name not in params:
        raise UserError(
            f"{file}: section `{name}` is missing; present: {', '.join(map(str, params))}"
        )
    try:
        return kind.model_validate(plain(params[name]))
    except ValidationError as error:
        # Unknown keys first: a misspelt one explains why another is missing.
        ordered = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        problems = [_explain(problem, name, params, kind, file) for problem in ordered]
        raise UserError("\n".join(problems)) from None


def plain(node: Any) -> Any:
    """The node as plain dicts, lists and scalars, without ruamel's wrappers."""
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    for scalar in (bool, int, float, str):
        if isinstance(node, scalar):
            return scalar(node)
    return node


def _explain(problem: Any, name: str, params: CommentedMap, kind: type[Section], file: Path) -> str:
    keys = [name, *problem["loc"]]
    place = f"{file}:{_line(params, keys)}: {'.'.join(map(str, keys))}"
    if problem["type"] == "extra_forbidden":
        allowed = _fields_at(kind, problem["loc"][:-1])
        near = difflib.get_close_matches(str(keys[-1]), allowed, n=1)
        hint = f"did you mean `{near[0]}`? " if near else ""
        return f"{place}: unknown key; {hint}allowed: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{place}: missing; every key must be given"
    return f"{place}: {problem['msg']}, got {problem['input']!r}"


def _fields_at(kind: type[Section], location: tuple[Any, ...]) -> list[str]:
    """Names allowed at a location inside a section, following nested sections."""
    for key in location:
        field = kind.model_fields.get(str(key))
        types = _types_in(field.annotation) if field else []
        kind = next((t for t in types if isinstance(t, type) and issubclass(t, Section)), kind)
    return list(kind.model_fields)


def _types_in(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation] + [inner for argument in arguments for inner in _types_in(argument)]


def _line(node: Any, keys: list[Any]) -> int:
    line = 1
    for key in keys:
        try:
            line = (node.lc.key(key) if isinstance(node, CommentedMap) else node.lc.item(key))[
                0
            ] + 1
            node = node[key]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return line
