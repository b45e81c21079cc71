import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from flows.sweep import result_cells, sweep
from tests.flows.agents import run
from tests.flows.pool import Pool, pool

PARAMS = "prepare:\n  rows: 1\ntrain:\n  rate: 1\n"
EVALUATE = """
import json, sys
from pathlib import Path
rate = int(sys.argv[1])
if rate == 3:
    sys.exit(4)
Path("metrics").mkdir(exist_ok=True)
figure = {"accuracy": rate / 10, "interval": [0.0, 1.0]}
models = {"adapted": {"domain": figure, "general": figure | {"accuracy": None}}}
measured = {"models": models, "verdict": {"outcome": "HOLD", "reason": "|"}}
Path("metrics/evaluate.json").write_text(json.dumps(measured))
"""
GRAPH = """
stages:
  prepare:
    cmd: echo prepare >> $RAN && cp source.txt data.txt
    deps: [source.txt]
    params: [prepare]
    outs: [data.txt]
  evaluate:
    cmd: echo evaluate >> $RAN && python evaluate.py $(grep rate params.yaml | tr -dc 0-9)
    deps: [data.txt, evaluate.py]
    params: [train.rate]
    metrics: [metrics/evaluate.json]
"""


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> Iterator[Pool]:
    """A project of two stages, and two agents."""
    files = {
        "dvc_yaml": GRAPH,
        "params_yaml": PARAMS,
        "evaluate_py": EVALUATE,
        "source_txt": "words",
    }
    with pool(tmp_path, 2, monkeypatch, **files) as made:
        yield made


def artifact() -> str:
    """The newest table."""
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/latest/filter", json={}).json()
    return next(str(each["data"]) for each in found if each["key"] == "lmadapt-sweep")


def rows(text: str) -> list[list[str]]:
    """The cells of each row below the header."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line[:2] == "| "]
    return [[cell.strip() for cell in cells] for cells in lines[1:]]


def test_shared_stages_run_once_and_each_set_has_a_branch_and_a_row(one: Pool) -> None:
    rates = (2, 4, 5)
    commits = sweep([{"train.rate": rate} for rate in rates], project=one.control)
    assert one.ran().count("prepare") == 1
    assert one.ran().count("evaluate") == 3
    branches = dict(
        reversed(line.split())
        for line in run(one.control, "git", "ls-remote", "origin").splitlines()
    )
    for number, rate in enumerate(rates, 1):
        (branch,) = [name for name, commit in branches.items() if commit == commits[number]]
        assert branch.endswith(f"-{number}")
        assert f"rate: {rate}" in one.show(f"{commits[number]}:params.yaml")
        assert f'"accuracy": {rate / 10}' in one.show(f"{commits[number]}:results/evaluate.json")
    assert rows(artifact()) == [
        [
            str(i),
            f"train.rate: {rate}",
            "HOLD",
            f"{10 * rate:.1f} % [0.0, 100.0]",
            "",
            "",
            f"`{commits[i][:12]}`",
        ]
        for i, rate in enumerate(rates, 1)
    ]


def test_sets_run_side_by_side(one: Pool) -> None:
    one.meeting = threading.Barrier(2)  # a stage that runs alone fails the sweep
    sweep([{"prepare.rows": 2}, {"prepare.rows": 3}], project=one.control)
    assert one.ran().count("evaluate") == 2


def test_a_failed_set_is_in_the_table_and_stops_no_other(one: Pool) -> None:
    with pytest.raises(
        RuntimeError, match=r"1 of 3 sets failed: 2 \(stage evaluate failed with exit code 4"
    ):
        sweep([{"train.rate": rate} for rate in (2, 3, 4)], project=one.control)
    found = rows(artifact())
    assert [row[2].partition(":")[0] for row in found] == ["HOLD", "failed", "HOLD"]
    assert "exit code 4" in found[1][2]
    assert [bool(row[6]) for row in found] == [True, False, True]


def test_a_failed_shared_stage_fails_only_the_sets_that_share_it(one: Pool) -> None:
    one.push(
        dvc_yaml=GRAPH.replace(
            "cp source.txt data.txt", "grep -q rows..1 params.yaml && cp source.txt data.txt"
        )
    )
    sets = [{"prepare.rows": 2, "train.rate": 4}, {"prepare.rows": 2}, {"train.rate": 5}]
    with pytest.raises(
        RuntimeError,
        match=r"2 of 3 sets failed: 1 \(stage prepare failed.*2 \(stage prepare failed",
    ):
        sweep(sets, project=one.control)
    assert [row[2].partition(":")[0] for row in rows(artifact())] == ["failed", "failed", "HOLD"]
    assert sorted(one.ran()) == ["evaluate", "prepare", "prepare"]


def test_unknown_keys_and_stages_are_refused_before_anything_runs(one: Pool) -> None:
    with pytest.raises(ValueError, match=r"train.rates of set 2 is not in params.yaml"):
        sweep([{"train.rate": 2}, {"train.rates": 3}], project=one.control)
    with pytest.raises(ValueError, match="stages: nothere not in dvc"):
        sweep([{"train.rate": 2}], stages=["nothere"], project=one.control)
    assert one.ran() == []
    assert "runs/" not in run(one.control, "git", "ls-remote", "origin")


def test_a_row_shows_the_version_of_a_set_without_a_verdict() -> None:
    version = {"model_name": "tiny", "version": "3", "aliases": ["candidate", "champion"]}
    assert result_cells({"register": version}) == [
        "not judged",
        "",
        "",
        "tiny 3 (candidate, champion)",
    ]
