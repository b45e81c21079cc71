from itertools import chain
from pathlib import Path

import pytest
import yaml

from lmadapt.provenance.dvc_lock import is_code, locked_stages
from tests.adapted import ROOT


def write_lock(lock: Path, deps: list[dict[str, str]]) -> None:
    lock.write_text(yaml.safe_dump({"stages": {"evaluate": {"deps": deps}}}))


def test_there_are_no_stages_without_a_lock(tmp_path: Path) -> None:
    assert locked_stages(tmp_path / "dvc.lock") == {}


def test_files_elsewhere_are_known_by_their_etag(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    write_lock(lock, [{"path": "a", "md5": "x"}, {"path": "s3://b", "etag": "y"}, {"path": "c"}])
    stage = locked_stages(lock)["evaluate"]
    assert (stage.deps, stage.outs) == ({"a": "x", "s3://b": "y"}, {})


def test_code_is_no_input_of_a_stage(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    paths = ("stages/evaluate.py", "lmadapt/report", "demo", "my_sources.py", "models/base")
    write_lock(lock, [{"path": path, "md5": "x"} for path in paths])
    assert list(locked_stages(lock)["evaluate"].deps) == ["models/base"]


@pytest.mark.parametrize(
    "path", ["lmadapt/report.css", "lmadapt/report.html.j2", "lmadapt/chat.py"]
)
def test_single_modules_in_locks_of_earlier_releases_are_code(path: str) -> None:
    assert is_code(path)


def test_the_deps_of_dvc_yaml_are_parted_into_code_and_inputs() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    deps = set(chain.from_iterable(stage["deps"] for stage in stages.values()))
    inputs = {dep for dep in deps if not is_code(dep)}
    places = ("data/", "models/", "metrics/", "plots/", "reports/")
    assert {dep for dep in inputs if not dep.startswith(places)} == {
        "baseline.json",
        "expectations.yaml",
    }
    assert all(dep.startswith(("lmadapt/", "stages/", "demo")) for dep in deps - inputs)
