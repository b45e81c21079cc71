"""What must agree between dvc.yaml, params.yaml, the stages and the modules they import."""

import ast
import importlib
import inspect
import re
import shlex
import subprocess
import sys
from functools import cache
from itertools import chain, pairwise
from pathlib import Path

import pytest
import yaml

from lmadapt.core.sections import Section

ROOT = Path(__file__).parents[1]
STAGES = ["fetch", "curate", "validate", "pretrain", "sft", "evaluate", "register"]
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
READERS = {  # where the settings of a class that params classes extend are read: rooms, modules
    "lmadapt.curation.settings": {"lmadapt.curation.sequence"},
    "lmadapt.validation.expectations": {"lmadapt.validation.expectations"},
    "lmadapt.training.params": {"lmadapt.training.", "lmadapt.planning.plan"},
}
ROOMS = [  # lowest first: a room imports only from those before it
    "core",
    "models",
    "sources",
    "curation",
    "validation",
    "verdict",
    "training",
    "planning",
    "provenance",
    "evaluation",
    "report",
    "registry",
    "cli",
]
PACKAGES = [*(f"lmadapt/{room}" for room in ROOMS), "lmadapt/curation/kernels", "flows"]
MODULES = [file for part in ("lmadapt", "stages", "flows") for file in (ROOT / part).rglob("*.py")]


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(file): file for file in MODULES}


@cache
def imports(module: str) -> frozenset[str]:
    """Project modules that `module` names in an import, anywhere in its file."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset((found & FILES.keys()) - {module})


def reachable(module: str) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += imports(current)
    return seen


def params_class(stage: str) -> type[Section]:
    module = importlib.import_module(f"stages.{stage}")
    kind = inspect.signature(getattr(module, stage)).parameters["params"].annotation
    assert issubclass(kind, Section)
    assert kind.__module__ == module.__name__
    return kind


def read_keys(kind: type[Section]) -> set[str]:
    """Names read as attributes where the class and those it extends stand, and in READERS."""
    modules = {base.__module__ for base in kind.__mro__ if issubclass(base, Section)}
    readers = {reader for module in modules for reader in READERS.get(module, ())}
    modules |= {name for name in FILES if name.startswith(tuple(readers))} if readers else set()
    trees = [ast.parse(FILES[module].read_text()) for module in modules]
    return {
        node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def test_the_graph_has_the_seven_stages_in_order() -> None:
    assert list(GRAPH) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_deps_of_a_stage_are_its_file_and_the_rooms_it_reaches(stage: str) -> None:
    reached = {room for module in reachable(f"stages.{stage}") if (room := room_of(module))}
    rooms = [f"lmadapt/{room}" for room in ROOMS if room in reached]
    code = [dep for dep in GRAPH[stage]["deps"] if is_code(dep)]
    assert code == [f"stages/{stage}.py", *rooms]


def test_what_every_stage_imports_first_only_prepares_the_environment() -> None:
    tree = ast.parse((ROOT / "stages/__init__.py").read_text())
    assert [ast.unparse(node) for node in tree.body[1:]] == [
        "from lmadapt.core.environment import prepare_environment",
        "prepare_environment(offline=False)",
    ]
    assert all(
        len(ast.parse((ROOT / f"lmadapt/{room}/__init__.py").read_text()).body) == 1
        for room in ROOMS
    )


def test_the_rooms_are_the_folders_of_the_library() -> None:
    assert {file.parent.name for file in (ROOT / "lmadapt").glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("folder", PACKAGES)
def test_the_docstring_of_a_room_names_every_module_of_it_and_no_other(folder: str) -> None:
    files = {file.name for file in (ROOT / folder).iterdir()}
    modules = {name.removesuffix(".py") for name in files if name.endswith(".py")} - {"__init__"}
    modules |= {file.parent.name for file in (ROOT / folder).glob("*/__init__.py")}
    named = names_in_docstring(ROOT / folder / "__init__.py")
    assert len(named) == len(set(named))
    assert modules <= set(named)
    assert set(named) <= modules | files  # such as a template


def names_in_docstring(file: Path) -> list[str]:
    """The names before the colon of each line `name: what it does`, or `- name, name: ...`."""
    _, *lines = (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()
    found = [re.match(r"(?:- )?([\w.]+(?:, [\w.]+)*): ", line) for line in lines]
    return list(chain.from_iterable(line[1].split(", ") for line in found if line))


def room_of(module: str) -> str | None:
    """The room of a module of the library; None for the library itself and for stages and flows."""
    names = module.split(".")
    return names[1] if names[0] == "lmadapt" and names[1:2] and names[1] in ROOMS else None


def is_code(dep: str) -> bool:
    return dep.startswith(("lmadapt/", "stages/"))


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_of_a_command_is_a_declared_dep_or_out(stage: str) -> None:
    words = shlex.split(GRAPH[stage]["cmd"])
    paths = {value for flag, value in pairwise(words) if flag.startswith("--")}
    declared = {*GRAPH[stage]["deps"], *GRAPH[stage].get("outs", []), *outputs(stage, "plots")}
    declared |= outputs(stage, "metrics")
    undeclared = {
        path
        for path in paths
        if not any(path == d or Path(d) in Path(path).parents for d in declared)
    }
    # dvc.lock is what DVC itself writes while a stage runs: it cannot be a dep of one.
    assert undeclared - {"dvc.lock"} == set()
    # Users add the files of their data to the deps of fetch.
    own_files = set(GRAPH[stage]["deps"]) if stage == "fetch" else set()
    assert {path for path in declared - own_files if not is_code(path)} <= paths | ordering_only(
        stage
    )


def outputs(stage: str, kind: str) -> set[str]:
    """Paths of metrics or plots, whether given alone or with settings."""
    return {next(iter(out)) if isinstance(out, dict) else out for out in GRAPH[stage].get(kind, [])}


def ordering_only(stage: str) -> set[str]:
    """Deps that are not read but must have passed first."""
    return {"metrics/validate.json"} if stage in {"pretrain", "sft"} else set()


@pytest.mark.parametrize("stage", STAGES)
def test_params_yaml_holds_exactly_the_keys_its_class_declares(stage: str) -> None:
    section = yaml.safe_load((ROOT / "params.yaml").read_text())[stage]
    assert params_class(stage).model_validate(section)
    assert GRAPH[stage]["params"] == [stage, *borrowed_keys(stage)]


def borrowed_keys(stage: str) -> list[str]:
    """Keys of other stages' sections, `SECTION.KEY`, that the function of a stage asks for."""
    module = importlib.import_module(f"stages.{stage}")
    arguments = inspect.signature(getattr(module, stage)).parameters
    others = {name: one.annotation for name, one in arguments.items() if name != "params"}
    return [
        f"{name}.{key}"
        for name, kind in others.items()
        if issubclass(kind, Section)
        for key in kind.model_fields
    ]


def test_params_yaml_has_a_section_for_each_stage_and_the_pools_they_run_on() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert list(params) == [*STAGES, "pools"]
    assert set(params["pools"]) <= set(STAGES)


def test_no_key_has_a_name_that_dvc_ignores_when_it_looks_for_an_earlier_run() -> None:
    # The run cache of DVC 3.67 takes two values of such a key for the same.
    from dvc_data.hashfile.meta import Meta

    names = re.findall(r"^\s*(?:- )?(\w+):", (ROOT / "params.yaml").read_text(), re.MULTILINE)
    assert not {Meta.PARAM_SIZE, Meta.PARAM_NFILES} & set(names)


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_of_a_section_is_read_by_its_stage(stage: str) -> None:
    assert set(params_class(stage).model_fields) <= read_keys(params_class(stage))


def test_a_room_imports_only_from_the_rooms_before_it() -> None:
    for module in FILES:
        if room := room_of(module):
            allowed = ROOMS[: ROOMS.index(room) + 1]
            assert {room_of(name) for name in imports(module)} - {None} <= set(allowed), module
        if module.startswith("lmadapt"):
            assert not [name for name in imports(module) if name.startswith(("stages", "flows"))], (
                module
            )


def test_no_stage_imports_a_stage() -> None:
    for module in FILES:
        if module.startswith("stages."):
            assert not [name for name in imports(module) if name.startswith("stages")], module


def test_flows_import_of_the_library_only_the_schema_of_the_figures() -> None:
    for module in FILES:
        if module.startswith("flows."):
            others = {name for name in imports(module) if name.startswith(("stages", "lmadapt"))}
            assert others <= {"lmadapt.verdict.figures"}, module


def test_planning_needs_no_library_of_training_until_it_tries_one() -> None:
    program = (
        "import sys, lmadapt.planning.doctor, lmadapt.planning.plan\n"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_imports_have_no_cycle() -> None:
    for module in FILES:
        for imported in imports(module):
            assert module not in reachable(imported), f"{module} and {imported} import each other"


def test_no_module_has_more_than_400_lines() -> None:
    lengths = {name: len(file.read_text().splitlines()) for name, file in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
