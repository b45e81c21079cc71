"""Sweeps with real servers and workers."""

import json
import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from tests.flows.agents import Team, run, team
from tests.flows.sleeping import push_sleeping, rates

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]


def of_sets(one: Team, run_id: str, count: int) -> dict[int, str]:
    """The branches that a sweep's sets have, by set."""
    name = one.flow_run(run_id)["name"]
    there = run(one.folder, "git", "ls-remote", "shared.git")
    branches = {number: f"runs/{name}-{number}" for number in range(1, count + 1)}
    return {
        number: branch
        for number, branch in branches.items()
        if f"refs/heads/{branch}\n" in there + "\n"
    }


def unfinished(one: Team) -> list[str]:
    """The states of runs that are not over."""
    states = [each["state_type"] for each in one.runs()]
    return [state for state in states if state in {"SCHEDULED", "PENDING", "RUNNING"}]


def table_of(one: Team) -> str:
    found = httpx.post(f"{one.api}/artifacts/latest/filter", json={}).json()
    return next(str(artifact["data"]) for artifact in found if artifact["key"] == "lmadapt-sweep")


def test_eight_sets_on_two_workers_share_a_stage_and_a_failed_one_stops_no_other(
    tmp_path: Path,
) -> None:
    with team(tmp_path, steps=1) as one:
        push_sleeping(one, seconds=8, shared_seconds=2, failing=5)
        one.start_worker("cpu-one", "cpu")
        one.start_worker("cpu-two", "cpu")
        run_id = one.begin("sweep/sweep", sets=rates(8))
        ended = one.ended(run_id, 330)
        assert ended["state_type"] == "FAILED"
        assert "1 of 8 sets failed: 5 (stage train failed" in ended["state"]["message"]
        assert one.ran().count("prepare") == 1
        trained = [line.split() for line in one.ran() if line != "prepare"]
        assert sorted(int(line[1]) for line in trained) == list(range(1, 9))
        assert {line[3] for line in trained} == {"cpu-one", "cpu-two"}
        branches = of_sets(one, run_id, 8)
        for number in {*range(1, 9)} - {5}:
            file = f"{branches[number]}:results/train.json"
            shown = run(tmp_path, "git", "--git-dir", "shared.git", "show", file)
            assert json.loads(shown) == {"rate": number}
        rows = [line for line in table_of(one).splitlines() if "train.rate: " in line]
        for number, row in enumerate(rows, 1):
            outcome = "failed: stage train" if number == 5 else "not judged"
            assert f"| {number} | train.rate: {number} | {outcome}" in row
        assert len(rows) == 8
        assert "refs/lmadapt" not in run(tmp_path, "git", "ls-remote", "shared.git")


def test_a_sweep_that_lost_its_worker_repeats_no_finished_stage_when_started_again(
    tmp_path: Path,
) -> None:
    with team(tmp_path, steps=1) as one:
        push_sleeping(one, seconds=8, shared_seconds=1)
        one.start_worker("cpu-one", "cpu")
        one.start_worker("cpu-two", "cpu")
        one.begin("sweep/sweep", sets=rates(4))
        one.until(lambda: [line for line in one.ran() if line.startswith("train")], 120)
        control = one.workers.pop("control")
        controllers = psutil.Process(control.pid).children(recursive=True)
        assert controllers
        os.kill(control.pid, signal.SIGKILL)
        control.wait()
        one.until(lambda: not any(process.is_running() for process in controllers), 60)
        one.until(lambda: not unfinished(one), 150)
        one.start_worker("control-two", "control")
        again = one.ended(one.begin("sweep/sweep", sets=rates(4)), 200)
        assert again["state_type"] == "COMPLETED"
        assert len(one.ran()) == 5
        assert len(of_sets(one, again["id"], 4)) == 4
