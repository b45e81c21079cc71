import importlib
import inspect
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lmadapt.core.errors import UserError
from lmadapt.core.recipes import list_recipes, use_recipe
from lmadapt.core.sections import load_section, read_params

ROOT = Path(__file__).parents[2]
RECIPES = ["70b-8x80gb", "8b-24gb", "8b-80gb", "demo-cpu"]
STAGES = list(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])


def test_every_recipe_is_accepted_by_every_stage() -> None:
    present = [stage for stage in STAGES if (ROOT / f"stages/{stage}.py").is_file()]
    checked = 0
    for recipe in sorted((ROOT / "recipes").glob("*.yaml")):
        assert list(read_params(recipe)) == [*STAGES, "pools"]
        for stage in present:
            function = getattr(importlib.import_module(f"stages.{stage}"), stage)
            assert load_section(
                inspect.signature(function).parameters["params"].annotation, stage, recipe
            )
            checked += 1
    assert checked == len(RECIPES) * len(present) > 0


def test_hub_models_of_recipes_are_pinned_to_a_commit() -> None:
    for name in RECIPES:
        model = read_params(ROOT / f"recipes/{name}.yaml")["fetch"]["model"]
        assert model["module"] or len(model["revision"]) == 40, name


def test_each_recipe_says_what_it_is_for() -> None:
    purposes = list_recipes(ROOT / "recipes")
    assert list(purposes) == RECIPES
    assert all(len(purpose) > 20 for purpose in purposes.values())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/small.yaml").write_text("# small\na: 1\n")
    (tmp_path / "recipes/large.yaml").write_text("# large\na: 2\n")
    return tmp_path


def test_a_recipe_replaces_params_that_are_a_recipe_or_missing(project: Path) -> None:
    params = project / "params.yaml"
    for name in ("small", "large", "small"):
        use_recipe(name, project / "recipes", params)
        assert params.read_text() == (project / f"recipes/{name}.yaml").read_text()


def test_params_with_changes_are_kept_unless_committed_or_forced(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text("a: 3\n")
    with pytest.raises(
        UserError, match=r"params.yaml: has changes that are not committed; .* --force"
    ):
        use_recipe("small", project / "recipes", params)
    assert params.read_text() == "a: 3\n"
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=project, check=True)
    use_recipe("small", project / "recipes", params)
    params.write_text("a: 4\n")
    use_recipe("large", project / "recipes", params, force=True)
    assert "large" in params.read_text()


def test_an_unknown_recipe_names_the_nearest(project: Path) -> None:
    with pytest.raises(
        UserError, match=r"no recipe `smal` .*did you mean `small`.*available: large, small"
    ):
        use_recipe("smal", project / "recipes", project / "params.yaml")
    assert not (project / "params.yaml").exists()
