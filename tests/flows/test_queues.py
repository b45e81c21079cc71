"""Work queues of a pool, and time limits, with real servers and workers."""

from pathlib import Path

import psutil
import pytest

from tests.flows.agents import Team, team

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def stage(one: Team, name: str) -> dict[str, str]:
    """The only run of a stage."""
    (found,) = [each for each in one.runs() if each["parameters"].get("stage") == name]
    return found


def test_a_stage_runs_on_a_worker_of_its_queue(tmp_path: Path) -> None:
    with team(tmp_path, steps=1) as one:
        one.push(params_yaml="pools:\n  train: gpu/80gb\n")
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("small", "gpu", "24gb", "default")
        run_id = one.begin()
        one.until(lambda: [each for each in one.runs() if each["work_queue_name"] == "80gb"], 120)
        one.start_worker("large", "gpu", "80gb")
        assert one.ended(run_id, 120)["state_type"] == "COMPLETED"
        assert [line.split()[4] for line in one.ran() if line.startswith("train")] == ["large"]
        assert [stage(one, name)["work_queue_name"] for name in ("curate", "train")] == [
            "default",
            "80gb",
        ]


def test_a_stage_over_its_time_limit_is_cancelled_while_it_runs_or_waits(
    tmp_path: Path,
) -> None:
    with team(tmp_path, steps=600) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu", "default")
        run_id = one.begin(stage_timeout_seconds=40)
        one.until(lambda: [line for line in one.ran() if line.startswith("train")], 120)
        process = int(one.ran()[-1].split()[-1])
        ended = one.ended(run_id, 90)
        assert ended["state_type"] == "FAILED"
        assert "on pool gpu: not completed within 40" in ended["state"]["message"]
        one.until(lambda: not psutil.pid_exists(process), 60)
        one.until(lambda: stage(one, "train")["state_type"] == "CANCELLED", 60)
        one.push(params_yaml="pools:\n  train: gpu/misspelt\n")
        waiting = one.ended(one.begin(stage_timeout_seconds=25), 120)
        assert "on pool gpu/misspelt: not completed within 25" in waiting["state"]["message"]
        over = {"COMPLETED", "FAILED", "CANCELLED"}
        one.until(lambda: {each["state_type"] for each in one.runs()} <= over, 30)
