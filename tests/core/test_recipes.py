import importlib
import inspect
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lmadapt.core.errors import UserError
from lmadapt.core.recipes import list_recipes, read_recipe, render_recipe, use_recipe
from lmadapt.core.sections import check_section, read_params

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes"
RECIPES = ["70b-8x80gb", "8b-24gb", "8b-80gb", "demo-cpu"]
STAGES = list(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])


def params_class(stage: str) -> Any:
    function = getattr(importlib.import_module(f"stages.{stage}"), stage)
    return inspect.signature(function).parameters["params"].annotation


def test_every_recipe_is_accepted_by_every_stage() -> None:
    checked = 0
    for name in list_recipes(FOLDER):
        settings = read_recipe(name, FOLDER)
        assert list(settings) == [*STAGES, "pools"]
        for stage in STAGES:
            assert check_section(params_class(stage), stage, settings, name)
            checked += 1
    assert checked == len(RECIPES) * len(STAGES)


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Values that are no mapping, by dotted key."""
    if not isinstance(node, dict):
        return {path: node}
    found = {}
    for key, value in node.items():
        found |= leaves(value, f"{path}.{key}")
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_short_and_holds_only_what_differs_from_the_defaults(name: str) -> None:
    file = FOLDER / f"{name}.yaml"
    assert len(file.read_text().splitlines()) < 45
    defaults = leaves(read_params(FOLDER / "defaults.yaml"))
    same = [key for key, value in leaves(read_params(file)).items() if defaults.get(key) == value]
    assert same == []


def test_hub_models_of_recipes_are_pinned_to_a_commit() -> None:
    for name in RECIPES:
        model = read_recipe(name, FOLDER)["fetch"]["model"]
        assert model["module"] or len(model["revision"]) == 40, name


def test_each_recipe_says_what_it_is_for() -> None:
    purposes = list_recipes(FOLDER)
    assert list(purposes) == RECIPES
    assert all(len(purpose) > 20 for purpose in purposes.values())


def test_params_yaml_is_the_demo_recipe_as_it_is_written() -> None:
    assert (ROOT / "params.yaml").read_text() == render_recipe("demo-cpu", FOLDER)


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_written_has_the_settings_that_are_read(name: str, tmp_path: Path) -> None:
    use_recipe(name, FOLDER, tmp_path / "params.yaml")
    written = YAML(typ="safe").load(tmp_path / "params.yaml")
    assert leaves(written) == leaves(read_recipe(name, FOLDER))
    assert list(leaves(written)) == list(leaves(read_recipe(name, FOLDER)))


def comments(text: str) -> set[str]:
    return set(re.findall(r"(?<=# ).*", text))


@pytest.mark.parametrize("name", RECIPES)
def test_comments_of_the_defaults_and_of_the_recipe_are_written(name: str) -> None:
    lines = render_recipe(name, FOLDER).splitlines()
    assert lines[0] == f"# Recipe {name}, as `lmadapt use {name}` wrote it."
    recipe = (FOLDER / f"{name}.yaml").read_text()
    assert comments(recipe) <= comments("\n".join(lines))
    defaults = (FOLDER / "defaults.yaml").read_text().partition("\n\n")[2]
    replaced = len(re.findall(r"\S +# ", recipe))
    assert len(comments(defaults) - comments("\n".join(lines))) <= replaced


def test_without_overrides_the_defaults_are_written_unchanged(tmp_path: Path) -> None:
    defaults = (FOLDER / "defaults.yaml").read_text()
    (tmp_path / "defaults.yaml").write_text(defaults)
    (tmp_path / "plain.yaml").write_text("# the defaults\n{}\n")
    written = render_recipe("plain", tmp_path)
    assert written.partition("\n\n")[2] == defaults.partition("\n\n")[2]


DEFAULTS = """\
# about recipes

fetch:
  model: null      # a hub id
  packages: {}     # wheels
  sources:         # by role
    corpus:
      - path: own

sft:
  rate: 0.00005    # of learning
  layers: [1, 2]
  limits:          # on words
    low: 1
    high: 9        # at most

pools:             # of Prefect
  sft: gpu
"""
SMALL = """\
# small: for tests
# on one machine
fetch:
  packages: {a==1: f00}
  sources:
    evaluation:
      - path: exam
sft:
  rate: 0.1  # fast
  limits: {high: 5}
  layers: [3]  # the last
pools: {curate: cpu}
"""
SMALL_PARAMS = """\
# Recipe small, as `lmadapt use small` wrote it.
# small: for tests
# on one machine
# Every setting you may want to change, one section a stage.

fetch:
  model: null      # a hub id
  packages: {a==1: f00} # wheels
  sources:         # by role
    evaluation:
      - path: exam

sft:
  rate: 0.1        # fast
  layers: [3]  # the last
  limits:          # on words
    low: 1
    high: 5        # at most

pools: {curate: cpu} # of Prefect
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "defaults.yaml").write_text(DEFAULTS)
    (folder / "small.yaml").write_text(SMALL)
    (folder / "large.yaml").write_text("# large\nsft:\n  rate: 2.0\n")
    return folder


def test_mappings_merge_and_lists_and_mappings_of_free_keys_are_replaced(folder: Path) -> None:
    assert read_recipe("small", folder) == {
        "fetch": {
            "model": None,
            "packages": {"a==1": "f00"},
            "sources": {"evaluation": [{"path": "exam"}]},
        },
        "sft": {"rate": 0.1, "layers": [3], "limits": {"low": 1, "high": 5}},
        "pools": {"curate": "cpu"},
    }


def test_a_recipe_is_written_in_the_layout_of_the_defaults(folder: Path) -> None:
    written = re.sub(r" +#", " #", render_recipe("small", folder))
    assert written == re.sub(r" +#", " #", SMALL_PARAMS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sfft:\n  rate: 1.0\n", r"wrong.yaml:1: sfft: not in defaults.yaml; did you mean `sft`\?"),
        (
            "sft:\n  rat: 1.0\n",
            r"wrong.yaml:2: sft.rat: not in defaults.yaml; did you mean `rate`\? "
            "allowed: rate, layers, limits",
        ),
        ("sft:\n  limits: 3\n", "wrong.yaml:2: sft.limits: expected a mapping, got 3"),
        ("sft: [\n", "wrong.yaml:2: not valid YAML"),
    ],
)
def test_a_recipe_that_does_not_fit_the_defaults_is_refused(
    folder: Path, text: str, message: str
) -> None:
    (folder / "wrong.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_recipe("wrong", folder)


def test_a_recipe_replaces_params_that_are_a_recipe_or_missing(folder: Path) -> None:
    params = folder.parent / "params.yaml"
    for name in ("small", "large", "small"):
        use_recipe(name, folder, params)
        assert params.read_text() == render_recipe(name, folder)


def test_params_with_changes_are_kept_unless_committed_or_forced(folder: Path) -> None:
    params = folder.parent / "params.yaml"
    edited = render_recipe("small", folder).replace("0.1", "0.3")
    params.write_text(edited)
    with pytest.raises(
        UserError, match=r"params.yaml: has changes that are not committed; .* --force"
    ):
        use_recipe("small", folder, params)
    assert params.read_text() == edited
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=folder.parent, check=True)
    use_recipe("small", folder, params)
    params.write_text("a: 4\n")
    use_recipe("large", folder, params, force=True)
    assert "large" in params.read_text()


def test_an_unknown_recipe_names_the_nearest(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"no recipe `smal` .*did you mean `small`.*available: large, small"
    ):
        use_recipe("smal", folder, folder.parent / "params.yaml")
    assert not (folder.parent / "params.yaml").exists()


def test_the_defaults_are_no_recipe(folder: Path) -> None:
    with pytest.raises(UserError, match="no recipe `defaults`"):
        read_recipe("defaults", folder)


def test_a_missing_file_of_defaults_is_named(folder: Path) -> None:
    (folder / "defaults.yaml").unlink()
    with pytest.raises(UserError, match=r"defaults.yaml: no such file; recipe `small` changes"):
        read_recipe("small", folder)
