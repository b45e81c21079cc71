"""Recipes: complete params files, one of which is in use as params.yaml."""

import difflib
import subprocess
from pathlib import Path

from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_file


def list_recipes(folder: Path) -> dict[str, str]:
    """Each recipe's name with its first comment line, which says what it is for."""
    files = sorted(folder.glob("*.yaml"))
    return {
        file.stem: file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        for file in files
    }


def recipe_file(name: str, folder: Path) -> Path:
    """The file of a recipe; UserError naming the nearest for one that is not there."""
    recipes = list_recipes(folder)
    if name not in recipes:
        near = difflib.get_close_matches(name, recipes, n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise UserError(f"no recipe `{name}` in {folder}; {hint}available: {', '.join(recipes)}")
    return folder / f"{name}.yaml"


def use_recipe(name: str, folder: Path, params: Path, *, force: bool = False) -> None:
    """Replace `params` by the recipe.

    Raises UserError for an unknown recipe, and where changes would be lost: `params` is neither as committed nor
    a recipe, and `force` is false.
    """
    recipe = recipe_file(name, folder)
    if params.is_file() and not force and not _can_be_had_again(params, folder):
        raise UserError(
            f"{params}: has changes that are not committed; commit them, or overwrite them with --force"
        )
    with atomic_file(params) as temporary:
        temporary.write_bytes(recipe.read_bytes())


def _can_be_had_again(params: Path, folder: Path) -> bool:
    content = params.read_bytes()
    if any(recipe.read_bytes() == content for recipe in folder.glob("*.yaml")):
        return True
    command = ["git", "show", f"HEAD:./{params.name}"]
    try:
        committed = subprocess.run(
            command, cwd=params.resolve().parent, capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return committed.returncode == 0 and committed.stdout == content
