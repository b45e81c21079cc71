"""Training under the real `dvc`, killed at random: the next `dvc repro` gives the same result."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.project import dvc, make_project, set_params

KILLS = 20
OUTPUT = {"pretrain": "models/pretrained", "sft": "models/adapter"}


def output_md5(project: Path, stage: str) -> str:
    locked = yaml.safe_load((project / "dvc.lock").read_text())["stages"][stage]["outs"]
    (out,) = (entry["md5"] for entry in locked if entry["path"] == OUTPUT[stage])
    return str(out)


def killed_after(project: Path, stage: str, seconds: float) -> bool:
    """Kill dvc and the stage together after `seconds`; whether they still ran then."""
    environment = {**os.environ, "PYTHONPATH": str(project), "HF_HUB_OFFLINE": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [
        sys.executable,
        "-m",
        "dvc",
        "repro",
        "--single-item",
        "--no-run-cache",
        "--force",
        stage,
    ]
    with subprocess.Popen(
        command, cwd=project, env=environment, start_new_session=True, stdout=-3, stderr=-3
    ) as run:
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            return True
    return False


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stage", OUTPUT)
def test_twenty_kills_at_random_instants_never_change_the_result(
    stage: str, tmp_path: Path, tiny_model: Path
) -> None:
    project = make_project(tmp_path, tiny_model)
    set_params(project, {name: {"checkpoint_minutes": 0.0, "max_tokens": 4000} for name in OUTPUT})
    assert dvc(project, "repro", stage).returncode == 0
    undisturbed = output_md5(project, stage)
    began = time.monotonic()
    assert not killed_after(project, stage, 600)
    whole = time.monotonic() - began
    assert output_md5(project, stage) == undisturbed
    generator, killed, resumed = random.Random(0), 0, 0
    for _ in range(2 * KILLS):  # on a machine with other work some end before they are killed
        if killed == KILLS:
            break
        killed += killed_after(project, stage, generator.uniform(0, whole))
        resumed += any((project / ".lmadapt/checkpoints").glob(f"{stage}-*/checkpoint-*"))
        again = dvc(project, "repro", "--single-item", "--no-run-cache", "--force", stage)
        assert again.returncode == 0, again.stdout
        assert output_md5(project, stage) == undisturbed
        assert not any((project / ".lmadapt/checkpoints").glob(f"{stage}-*"))
    assert killed == KILLS
    assert resumed > 0
