"""Every benchmark starts, makes its whole run small, and writes a complete result file."""

import ast
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
SHARED = ("__init__", "record")


def is_part(name: str) -> bool:
    """Whether a module belongs to a benchmark and is named NAME_part after it."""
    return any(name.startswith(f"{other}_") for other in MODULES if other not in SHARED)


BENCHMARKS = [name for name in MODULES if name not in SHARED and not is_part(name)]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_benchmarks_are_those_with_committed_results() -> None:
    assert sorted(file.stem for file in RESULTS.glob("*.json")) == BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_help_says_how_long_a_benchmark_takes_and_what_it_writes(name: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / f"benchmarks/{name}.py").read_text())) or ""
    words = " ".join(text.split())
    assert re.search(
        r"take[s]? about (\d+|two) (minutes|hours) on (one core|two cores)", words, re.I
    )
    assert f"writes benchmarks/results/{name}.json" in words


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_smoke_run_writes_a_complete_result_and_no_committed_one(
    name: str, tmp_path: Path
) -> None:
    committed = (RESULTS / f"{name}.json").read_bytes()
    target = tmp_path / "result.json"
    done = python("-m", f"benchmarks.{name}", "--smoke", "--results", str(target))
    assert done.returncode == 0, done.stderr[-4000:]
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
    for peer in found["left_out"]:
        assert f"left out: {peer}: " in done.stderr
    assert (RESULTS / f"{name}.json").read_bytes() == committed
