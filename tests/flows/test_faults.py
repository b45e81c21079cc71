"""Faults with real servers and workers: each run must end like an undisturbed one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.flows.agents import ROOT, Team, run, team

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
STEPS, FEW_STEPS = 20, 3
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += atol(getenv("CLOCK_OFF_SECONDS"));
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec, now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    return now ? (*now = exact.tv_sec) : exact.tv_sec;
}
"""  # with libfaketime 0.9.10, Python's condition variables stop or time.sleep fails


def training(one: Team) -> int | None:
    """The process of the training that started last."""
    begun = [line for line in one.ran() if line.startswith("train")]
    return int(begun[-1].split()[-1]) if begun else None


def in_training(one: Team) -> str:
    """A run whose training has started, on `gpu-one`."""
    one.start_worker("cpu-agent", "cpu")
    one.start_worker("gpu-one", "gpu")
    run_id = one.begin()
    one.until(lambda: training(one), 120)
    return run_id


def assert_undisturbed_end(
    one: Team, run_id: str, *, steps: int = STEPS, data: str = "data"
) -> None:
    """The model is an undisturbed run's; no process of a training, no lease and no slot is left."""
    versions = [file for file in one.folder.glob("*/version.txt") if file.is_file()]
    assert f"{steps} steps on {data}" in "".join(file.read_text() for file in versions)
    assert "register" in one.in_branch(run_id, "dvc.lock")
    assert one.ran().count("register") == 1
    trainings = [int(line.split()[-1]) for line in one.ran() if line.startswith("train")]
    assert not [process for process in trainings if psutil.pid_exists(process)]
    assert "refs/lmadapt" not in run(one.folder, "git", "ls-remote", "shared.git")
    limits = httpx.post(f"{one.api}/v2/concurrency_limits/filter", json={}).json()
    assert not [limit for limit in limits if limit["active_slots"]]


def test_another_machine_continues_from_the_checkpoint_of_one_that_lost_power(
    tmp_path: Path,
) -> None:
    with team(tmp_path, steps=STEPS) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu")
        run_id = one.begin()
        store = tmp_path / "store/checkpoints"
        one.until(lambda: list(store.glob("runs/*/train/*.zip")), 120)
        one.start_worker("gpu-two", "gpu")
        one.power_off("gpu-one")
        lost = one.until(
            lambda: [found for found in one.runs() if found["state_type"] == "CRASHED"], 110
        )
        resumed = one.until(lambda: "in gpu-two" in "".join(one.ran()), 60)
        print(f"lost after {lost:.0f} s, resumed after {resumed:.0f} s more")
        assert one.ended(run_id, 90)["state_type"] == "COMPLETED"
        assert not [line for line in one.ran() if "from 0 in gpu-two" in line]
        assert_undisturbed_end(one, run_id)


def test_the_run_of_a_killed_worker_ends_and_starts_again(
    tmp_path: Path,
) -> None:
    with team(tmp_path, steps=STEPS) as one:
        run_id = in_training(one)
        time.sleep(12)  # a checkpoint is being sent
        os.kill(one.workers.pop("gpu-one").pid, signal.SIGKILL)
        one.start_worker("gpu-two", "gpu")
        assert one.ended(run_id, 150)["state_type"] == "COMPLETED"
        assert_undisturbed_end(one, run_id)


def test_an_agent_that_is_told_to_stop_hands_its_last_checkpoint_to_another(tmp_path: Path) -> None:
    with team(tmp_path, steps=STEPS) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_agent("gpu-one", "gpu")
        run_id = one.begin()
        one.until(lambda: training(one), 120)
        time.sleep(4)
        agent = one.workers.pop("gpu-one")
        agent.terminate()
        assert agent.wait(60) == 0
        written = max(
            int(file.read_text()) for file in tmp_path.glob("gpu-one/.lmadapt/checkpoints/*/*/step")
        )
        one.start_worker("gpu-two", "gpu")
        assert one.ended(run_id, 120)["state_type"] == "COMPLETED"
        assert [line.split()[:5] for line in one.ran() if line.startswith("train")] == [
            ["train", "from", "0", "in", "gpu-one"],
            ["train", "from", str(written), "in", "gpu-two"],
        ]
        assert_undisturbed_end(one, run_id)


def test_a_run_survives_a_restart_of_the_servers_and_their_database(
    tmp_path: Path,
) -> None:
    with team(tmp_path, steps=STEPS) as one:
        run_id = in_training(one)
        one.kill_servers()
        one.start_servers()
        assert one.ended(run_id, 150)["state_type"] == "COMPLETED"
        assert_undisturbed_end(one, run_id)


def test_a_run_survives_a_minute_without_the_store(tmp_path: Path) -> None:
    with team(tmp_path, steps=FEW_STEPS) as one:
        run_id = in_training(one)
        (tmp_path / "store").rename(tmp_path / "away")
        (tmp_path / "store").touch()
        time.sleep(60)
        (tmp_path / "store").unlink()
        (tmp_path / "away").rename(tmp_path / "store")
        assert one.ended(run_id, 150)["state_type"] == "COMPLETED"
        assert len([line for line in one.ran() if line.startswith("train")]) == 1
        assert_undisturbed_end(one, run_id, steps=FEW_STEPS)


def test_a_cancelled_run_stops_its_training_and_can_start_again(tmp_path: Path) -> None:
    with team(tmp_path, steps=STEPS) as one:
        first = in_training(one)
        process = training(one)
        (stage,) = [found for found in one.runs() if found["parameters"].get("stage") == "train"]
        httpx.post(
            f"{one.api}/flow_runs/{stage['id']}/set_state", json={"state": {"type": "CANCELLING"}}
        )
        one.until(lambda: process and not psutil.pid_exists(process), 60)
        one.ended(first, 60)
        second = one.begin()
        assert one.ended(second, 150)["state_type"] == "COMPLETED"
        assert_undisturbed_end(one, second)


def test_two_runs_of_one_commit_run_each_stage_once(tmp_path: Path) -> None:
    with team(tmp_path, steps=2) as one:
        for name in ("cpu-one", "cpu-two", "gpu-one", "gpu-two"):
            one.start_worker(name, pool=name[:3])
        both = [one.begin(), one.begin()]
        assert [one.ended(run_id, 240)["state_type"] for run_id in both] == [
            "COMPLETED",
            "COMPLETED",
        ]
        assert len({one.in_branch(run_id, "dvc.lock") for run_id in both}) == 1
        assert [line.split()[0] for line in one.ran()] == ["curate", "train", "register"]


def curated(one: Team) -> str:
    """A run whose first stage is done and whose second one waits for an agent."""
    one.start_worker("cpu-agent", "cpu")
    run_id = one.begin()
    one.until(
        lambda: [found for found in one.runs() if found["parameters"].get("stage") == "train"], 120
    )
    return run_id


def test_no_stage_trains_on_a_truncated_object_and_it_is_fetched_again(tmp_path: Path) -> None:
    with team(tmp_path, steps=FEW_STEPS) as one:
        run_id = curated(one)
        stored = (tmp_path / "store/files/md5").glob("*/*")
        (data,) = [file for file in stored if file.read_text() == "data"]
        data.chmod(0o644)
        data.write_text("da")
        one.start_worker("gpu-one", "gpu")
        log = tmp_path / "gpu-one.log"
        one.until(lambda: "exit_code=75" in log.read_text(), 60)
        assert training(one) is None
        data.write_text("data")
        assert one.ended(run_id, 120)["state_type"] == "COMPLETED"
        assert_undisturbed_end(one, run_id, steps=FEW_STEPS)


def test_a_forgotten_push_is_named_and_a_later_one_is_enough(tmp_path: Path) -> None:
    with team(tmp_path, steps=FEW_STEPS) as one:
        run_id = curated(one)
        (tmp_path / "store").rename(tmp_path / "never-pushed")
        one.start_worker("gpu-one", "gpu")
        log = tmp_path / "gpu-one.log"
        one.until(lambda: "dvc push --run-cache" in log.read_text(), 60)
        assert training(one) is None
        run(tmp_path / "cpu-agent", sys.executable, "-m", "dvc", "push", "--run-cache", "curate")
        assert one.ended(run_id, 120)["state_type"] == "COMPLETED"
        assert one.ran().count("curate") == 1
        assert_undisturbed_end(one, run_id, steps=FEW_STEPS)


def test_nothing_is_trained_with_an_outdated_lock(tmp_path: Path) -> None:
    with team(tmp_path, steps=FEW_STEPS) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu")
        first = one.begin(stages=["curate"])
        assert one.ended(first, 120)["state_type"] == "COMPLETED"
        run(
            tmp_path / "project",
            "git",
            "pull",
            "-q",
            "origin",
            f"runs/{one.flow_run(first)['name']}",
        )
        one.push(source_txt="newer")  # with the lock of the older one
        stale = one.ended(one.begin(stages=["train", "register"]), 120)
        assert stale["state_type"] == "FAILED"
        assert "exit code 78: curate comes before it" in stale["state"]["message"]
        assert training(one) is None
        run_id = one.begin()
        assert one.ended(run_id, 120)["state_type"] == "COMPLETED"
        assert_undisturbed_end(one, run_id, steps=FEW_STEPS, data="newer")


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_an_agent_whose_clock_is_off_by_an_hour_is_refused_and_a_worker_with_it_does_no_harm(
    tmp_path: Path,
) -> None:
    with team(tmp_path, steps=FEW_STEPS) as one:
        library = str(tmp_path / "clock.so")
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-xc", "-", "-o", library, "-ldl"],
            input=CLOCK.encode(),
            check=True,
        )
        ahead, behind = (
            {"LD_PRELOAD": library, "CLOCK_OFF_SECONDS": str(off)} for off in (3600, -3600)
        )
        one.start_worker("cpu-agent", "cpu")
        run_id = one.begin()
        one.start_worker("gpu-behind", "gpu", **behind)
        one.start_worker("gpu-ahead", "gpu", **ahead)
        checked = one.variables | {
            "LMADAPT_PROJECT": str(tmp_path / "project"),
            "LMADAPT_FREE_GB": "0",
        }
        for where, off in {"ahead of": ahead, "behind": behind}.items():
            command = [sys.executable, str(ROOT / "infra/agent/agent.py"), "gpu"]
            agent = subprocess.run(
                command,
                env=os.environ | checked | off,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert agent.returncode == 78, agent.stderr
            assert f"s {where} the Prefect server's" in agent.stderr
        assert one.ended(run_id, 150)["state_type"] == "COMPLETED"
        assert_undisturbed_end(one, run_id, steps=FEW_STEPS)
