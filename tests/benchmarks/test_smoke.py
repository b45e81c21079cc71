"""Every benchmark starts, makes its whole run small, and writes a complete result file."""

import ast
import importlib
import json
import math
import os
import re
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
SHARED = ("__init__", "record")


def is_part(name: str) -> bool:
    """Whether a module belongs to a benchmark and is named NAME_part after it."""
    return any(name.startswith(f"{other}_") for other in MODULES if other not in SHARED)


BENCHMARKS = [name for name in MODULES if name not in SHARED and not is_part(name)]


def test_the_benchmarks_are_those_with_committed_results() -> None:
    assert sorted(file.stem for file in RESULTS.glob("*.json")) == BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_help_says_how_long_a_benchmark_takes_and_what_it_writes(name: str) -> None:
    tree = ast.parse((ROOT / f"benchmarks/{name}.py").read_text())
    assert ast.unparse(tree.body[-1]) == "if __name__ == '__main__':\n    main()"
    words = " ".join((ast.get_docstring(tree) or "").split())
    assert re.search(
        r"take[s]? about (\d+|two) (minutes|hours) on (one core|two cores)", words, re.I
    )
    assert f"writes benchmarks/results/{name}.json" in words


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_smoke_run_writes_a_complete_result_and_no_committed_one(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    committed = (RESULTS / f"{name}.json").read_bytes()
    target = tmp_path / "result.json"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [name, "--smoke", "--results", str(target)])
    if "datasets" in sys.modules:  # it has read its variable
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    with patch.dict(os.environ):  # a benchmark may set variables
        importlib.import_module(f"benchmarks.{name}").main()
    found = json.loads(target.read_text())
    assert found["smoke"] is True
    assert found["command"].startswith(f"python -m benchmarks.{name} --smoke")
    assert set(found["machine"]) == {"processor", "cores", "memory_gib", "system"}
    assert "python" in found["versions"]
    assert isinstance(found["seeds"], list)
    assert found["repetitions"] >= 1
    assert found["rows"]
    assert found["measurements"]
    assert all(math.isfinite(value) for value in found["measurements"].values())
    stderr = capfd.readouterr().err
    for peer in found["left_out"]:
        assert f"left out: {peer}: " in stderr
    assert (RESULTS / f"{name}.json").read_bytes() == committed
