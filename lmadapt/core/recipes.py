"""Recipes: what differs from recipes/defaults.yaml for a machine or a purpose."""

import io
import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.tokens import CommentToken

from lmadapt.core.errors import UserError, did_you_mean
from lmadapt.core.files import atomic_file
from lmadapt.core.sections import line_of, plain, read_params

DEFAULTS = "defaults.yaml"
REPLACED = {"packages", "sources", "filters", "replay_weights", "pools"}
"""Mappings whose keys the user chooses: a recipe replaces them whole."""
PURPOSE = "# Every setting you may want to change, one section a stage."
END_OF_LINE = 2  # index of the comment behind a value among ruamel's comments of a key


def list_recipes(folder: Path) -> dict[str, str]:
    """Return each recipe's name with its first line, a comment that says what it is for."""
    files = [file for file in sorted(folder.glob("*.yaml")) if file.name != DEFAULTS]
    return {file.stem: _header(file)[0].lstrip("# ") for file in files}


def read_recipe(name: str, folder: Path) -> dict[str, Any]:
    """Return the settings of a recipe, merged with the defaults, by section.

    Raises UserError for an unknown recipe, for a key that the defaults do not have, and for YAML
    that is not valid; the message names the file, and for a key its line and the nearest valid key.
    """
    return dict(plain(_merge(name, folder)))


def render_recipe(name: str, folder: Path) -> str:
    """Return the params.yaml of a recipe: its settings, with comments of the defaults and its own.

    Raises UserError as `read_recipe` does.
    """
    settings = _merge(name, folder)
    stream = io.StringIO()
    _yaml().dump(settings, stream)
    # ruamel puts one space before a comment that its value pushes to the right.
    body = re.sub(r"^([^#'\"\n]*\S) (#.*)$", r"\1  \2", stream.getvalue(), flags=re.MULTILINE)
    # A blank line that followed a replaced value went with it.
    body = re.sub(r"\n+(?=\w)", "\n\n", body)
    header = [
        f"# Recipe {name}, as `lmadapt use {name}` wrote it.",
        *_header(folder / f"{name}.yaml"),
    ]
    return "\n".join([*header, PURPOSE, "", body])


def use_recipe(name: str, folder: Path, params: Path, *, force: bool = False) -> None:
    """Replace the file `params` with the settings of a recipe.

    Raises UserError for an unknown recipe. Without `force` it also raises UserError when `params`
    has changes that would be lost: it is neither as committed in git nor as a recipe is written.
    """
    text = render_recipe(name, folder)
    if params.is_file() and not force and not _can_be_restored(params, folder):
        raise UserError(
            f"{params}: has changes that are not committed; "
            "commit them, or overwrite them with --force"
        )
    with atomic_file(params) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _can_be_restored(params: Path, folder: Path) -> bool:
    content = params.read_bytes()
    if _committed(params) == content:
        return True
    return any(render_recipe(name, folder).encode() == content for name in list_recipes(folder))


def _committed(params: Path) -> bytes | None:
    """Return the file as it is at HEAD; None without git, or when it is not committed."""
    command = ["git", "show", f"HEAD:./{params.name}"]
    place = params.resolve().parent
    try:
        shown = subprocess.run(command, cwd=place, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return shown.stdout if shown.returncode == 0 else None


def _merge(name: str, folder: Path) -> CommentedMap:
    """Return the defaults, with their comments, overridden by the recipe."""
    recipes = list_recipes(folder)
    if name not in recipes:
        hint = did_you_mean(name, recipes, cutoff=0.4)
        raise UserError(f"no recipe `{name}` in {folder}; {hint}available: {', '.join(recipes)}")
    file = folder / f"{name}.yaml"
    if not (folder / DEFAULTS).is_file():
        raise UserError(f"{folder / DEFAULTS}: no such file; recipe `{name}` changes its settings")
    settings, overrides = read_params(folder / DEFAULTS), read_params(file)
    settings.ca.comment = None  # the header of the defaults is about recipes
    _override(settings, overrides, file, [])
    return settings


def _override(settings: CommentedMap, overrides: CommentedMap, file: Path, path: list[str]) -> None:
    """Put the values of `overrides` into `settings`, key by key; `path` leads to both."""
    for key, value in overrides.items():
        place = f"{file}:{line_of(overrides, [key])}: {'.'.join([*path, str(key)])}"
        if key not in settings:
            hint = did_you_mean(str(key), settings)
            raise UserError(f"{place}: not in {DEFAULTS}; {hint}allowed: {', '.join(settings)}")
        merges = isinstance(settings[key], CommentedMap) and key not in REPLACED
        if merges and not isinstance(value, CommentedMap):
            raise UserError(f"{place}: expected a mapping, got {plain(value)!r}")
        if merges:
            _override(settings[key], value, file, [*path, str(key)])
        else:
            settings[key] = value
            _override_comment(settings, overrides, key)


def _override_comment(settings: CommentedMap, overrides: CommentedMap, key: str) -> None:
    """Put the recipe's comment behind a value in place of the default's."""
    ours = overrides.ca.items.get(key)
    if not ours or not ours[END_OF_LINE] or ours[END_OF_LINE].value.startswith("\n"):
        return
    comment = ours[END_OF_LINE].value.partition("\n")[0]
    default = settings.ca.items.get(key)
    if default and default[END_OF_LINE]:
        rest = default[END_OF_LINE].value.partition("\n")[2]
        default[END_OF_LINE].value = f"{comment}\n{rest}"
    else:
        token = CommentToken(f"{comment}\n", ours[END_OF_LINE].start_mark, None)
        settings.ca.items[key] = [None, None, token, None]


def _header(file: Path) -> list[str]:
    """Return the comment lines at the top of a file; [""] when there are none."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return list(itertools.takewhile(lambda line: line.startswith("#"), lines)) or [""]


def _yaml() -> YAML:
    """Return a writer that keeps the layout of our files."""
    yaml = YAML(typ="rt")
    yaml.width = 1000  # no line is folded
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), _represent_none)
    return yaml


def _represent_none(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")
