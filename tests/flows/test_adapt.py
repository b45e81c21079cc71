import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
STAGES = ["fetch", "curate", "validate", "pretrain", "sft", "evaluate", "register"]

DEPLOYED = {  # by deployment: its flow and work pool
    "local": ("adapt", "lmadapt"),
    "nightly": ("pipeline", "control"),
    "sweep": ("sweep", "control"),
    "watch": ("watch", "control"),
    "cpu": ("stage", "cpu"),
    "gpu": ("stage", "gpu"),
}
BY_RUN = {  # by flow: parameters that its deployments leave open
    "stage": {"stage": "sft", "commit": "0" * 40, "branch": "runs/x"},
    "sweep": {"sets": [{"sft.learning_rate": 0.0001}]},
}

DEPLOYMENTS = YAML(typ="safe").load(ROOT / "infra/prefect.yaml")["deployments"]
LOAD = f"""
import json, os, sys
from pathlib import Path
import flows
from prefect.flows import load_flow_from_entrypoint
os.chdir({str(ROOT)!r})
loaded = {{}}
for deployment in {DEPLOYMENTS!r}:
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    flow.validate_parameters(deployment["parameters"] | {BY_RUN!r}.get(flow.name, {{}}))
    from flows.adapt import stage_names
    loaded[deployment["name"]] = [flow.name, stage_names(Path()), "torch" in sys.modules]
print(json.dumps(loaded))
"""

GRAPH = """
stages:
  steady:
    cmd: echo steady > steady.txt
    outs: [steady.txt]
  moody:
    cmd: echo try >> tries.txt; test $(wc -l < tries.txt) -ge 2 || exit 75
    deps: [steady.txt]
  broken:
    cmd: echo once >> broken.txt; exit 4
    deps: [steady.txt]
"""

SLOW = """
stages:
  slow:
    cmd: echo $$ >> slow.txt; sleep 600
"""
# Both projects in one process, because Prefect's server takes half a minute to start.
PROGRAM = """
import json, os, sys
import flows.adapt
flows.adapt.repro = flows.adapt.repro.with_options(retry_delay_seconds=0)
try:
    flows.adapt.adapt()
except flows.adapt.StageFailed as failure:
    print(json.dumps([failure.stage, failure.exit_code, "torch" in sys.modules]))
os.chdir("slow")
try:
    flows.adapt.adapt(stage_timeout_seconds=8)
except BaseException as late:
    print(late)
"""


def python(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, with `folder`/home as the user's home."""
    (folder / "home").mkdir(exist_ok=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PREFECT")
    }
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), "HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """The project of GRAPH with that of SLOW in it, after PROGRAM; and what PROGRAM printed."""
    folder = tmp_path_factory.mktemp("flows")
    dvc = [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"]
    subprocess.run(dvc, cwd=folder, check=True)
    shutil.copytree(folder / ".dvc", folder / "slow/.dvc")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "slow/dvc.yaml").write_text(SLOW)
    return folder, python(PROGRAM, folder)


def test_a_flow_retries_only_temporary_failures_and_writes_only_into_the_project(
    ran: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder, done = ran
    assert json.dumps(["broken", 4, False]) in done.stdout.splitlines(), done.stderr[-3000:]
    assert (folder / "tries.txt").read_text() == "try\n" * 2
    assert (folder / "broken.txt").read_text() == "once\n"
    assert "> echo steady > steady.txt" in done.stderr
    assert (folder / ".lmadapt/prefect/prefect.db").is_file()
    assert not (folder / "home/.prefect").exists()


def test_a_stage_over_its_time_limit_is_stopped_and_not_retried(
    ran: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder, done = ran
    assert "exceeded timeout of 8" in done.stderr, done.stderr[-3000:]
    (process,) = (folder / "slow/slow.txt").read_text().split()
    assert not Path("/proc", process).exists()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """By deployment: its flow, the stages found, and whether torch was imported until then."""
    done = python(LOAD, tmp_path_factory.mktemp("loaded"))
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_the_flow_of_a_deployment_loads_and_accepts_its_parameters(
    deployment: dict[str, Any], loaded: dict[str, list[Any]]
) -> None:
    expected, pool = DEPLOYED[deployment["name"]]
    assert loaded[deployment["name"]] == [expected, STAGES, False]
    assert deployment["work_pool"]["name"] == pool
    assert expected == "stage" or deployment["parameters"]["stage_timeout_seconds"] > 0
    assert not any(schedule["active"] for schedule in deployment.get("schedules", []))
