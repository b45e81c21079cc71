"""What goes wrong in the night, with real servers and real workers: the end is that of an undisturbed run."""

import os
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.flows.agents import Team, run, team

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
STEPS = 25


def training(one: Team) -> int | None:
    """The process of the training that began last."""
    begun = [line for line in one.ran() if line.startswith("train")]
    return int(begun[-1].split()[-1]) if begun else None


def assert_undisturbed_end(one: Team, run_id: str, *, registered: int = 1) -> None:
    """The model is that of an undisturbed run; no process of a training is left, no lease, no slot."""
    assert f"{STEPS} steps on data" in "".join(
        file.read_text() for file in one.folder.glob("*/version.txt") if file.is_file()
    )
    assert "register" in one.in_branch(run_id, "dvc.lock")
    assert one.ran().count("register") == registered
    assert not [
        pid for line in one.ran() if line.startswith("train") and psutil.pid_exists(pid := int(line.split()[-1]))
    ]
    assert "refs/lmadapt" not in run(one.folder, "git", "ls-remote", "shared.git")
    limits = httpx.post(f"{one.api}/v2/concurrency_limits/filter", json={}).json()
    assert not [limit for limit in limits if limit["active_slots"]]


def test_the_stage_of_a_machine_that_lost_power_goes_on_at_its_checkpoint_on_another(tmp_path: Path) -> None:
    with team(tmp_path, steps=STEPS) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu")
        run_id = one.begin()
        store = tmp_path / "store/checkpoints"
        one.until(lambda: list(store.glob("runs/*/train/*.zip")), 120)
        one.start_worker("gpu-two", "gpu")
        one.power_off("gpu-one")
        lost = one.until(lambda: [found for found in one.runs() if found["state_type"] == "CRASHED"], 110)
        resumed = one.until(lambda: "in gpu-two" in "".join(one.ran()), 60)
        print(f"lost after {lost:.0f} s, resumed after {resumed:.0f} s more")
        assert one.ended(run_id, 90)["state_type"] == "COMPLETED"
        assert not [line for line in one.ran() if "from 0 in gpu-two" in line]
        assert_undisturbed_end(one, run_id)


def test_when_a_worker_is_killed_its_run_ends_by_itself_and_is_taken_up_again(tmp_path: Path) -> None:
    with team(tmp_path, steps=STEPS) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu")
        run_id = one.begin()
        one.until(lambda: training(one), 120)
        time.sleep(12)  # a checkpoint is on its way
        os.kill(one.workers.pop("gpu-one").pid, signal.SIGKILL)
        one.start_worker("gpu-two", "gpu")
        assert one.ended(run_id, 150)["state_type"] == "COMPLETED"
        assert_undisturbed_end(one, run_id)


def test_servers_and_a_database_that_are_killed_and_come_back_are_waited_for(tmp_path: Path) -> None:
    with team(tmp_path, steps=STEPS) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu")
        run_id = one.begin()
        one.until(lambda: training(one), 120)
        one.kill_servers()
        one.start_servers()
        assert one.ended(run_id, 150)["state_type"] == "COMPLETED"
        assert_undisturbed_end(one, run_id)


def test_a_store_that_is_away_for_a_while_is_asked_again(tmp_path: Path) -> None:
    with team(tmp_path, steps=STEPS) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu")
        run_id = one.begin()
        one.until(lambda: training(one), 120)
        (tmp_path / "store").rename(tmp_path / "away")
        (tmp_path / "store").touch()
        time.sleep(60)
        (tmp_path / "store").unlink()
        (tmp_path / "away").rename(tmp_path / "store")
        assert one.ended(run_id, 150)["state_type"] == "COMPLETED"
        assert len([line for line in one.ran() if line.startswith("train")]) == 1
        assert_undisturbed_end(one, run_id)


def test_a_cancelled_run_ends_its_training_and_can_be_started_again(tmp_path: Path) -> None:
    with team(tmp_path, steps=STEPS) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu")
        first = one.begin()
        one.until(lambda: training(one), 120)
        process = training(one)
        (stage,) = [found for found in one.runs() if found["parameters"].get("stage") == "train"]
        httpx.post(f"{one.api}/flow_runs/{stage['id']}/set_state", json={"state": {"type": "CANCELLING"}})
        one.until(lambda: process and not psutil.pid_exists(process), 60)
        one.ended(first, 60)
        second = one.begin()
        assert one.ended(second, 150)["state_type"] == "COMPLETED"
        assert_undisturbed_end(one, second)


def test_two_runs_of_one_commit_run_each_stage_once(tmp_path: Path) -> None:
    with team(tmp_path, steps=2) as one:
        for name, pool in {"cpu-one": "cpu", "cpu-two": "cpu", "gpu-one": "gpu", "gpu-two": "gpu"}.items():
            one.start_worker(name, pool)
        both = [one.begin(), one.begin()]
        assert [one.ended(run_id, 240)["state_type"] for run_id in both] == ["COMPLETED", "COMPLETED"]
        assert len({one.in_branch(run_id, "dvc.lock") for run_id in both}) == 1
        assert [line.split()[0] for line in one.ran()] == ["curate", "train", "register"]
