"""A whole run on agents: real servers, three workers, and clones that share their remotes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from tests.project import make_project
from tests.servers import servers, with_password

# The clone of the worker of each work pool.
AGENTS = {"control": "control", "cpu": "cpu-agent", "gpu": "gpu-agent"}
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
SECONDS = 420


def run(folder: Path, *command: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def shared_project(folder: Path, model: Path) -> Path:
    """Push a project to a bare repository, with a DVC remote beside it; the repository."""
    project = make_project(folder / "project", model)
    dvc = [sys.executable, "-m", "dvc"]
    run(folder, "git", "init", "-q", "--bare", "shared.git")
    run(project, *dvc, "remote", "add", "-q", "-d", "store", str(folder / "store"))
    run(project, "git", "add", "-A")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t")
    run(project, *git, "commit", "-qm", "A tiny project")
    run(project, "git", "push", "-q", str(folder / "shared.git"), "HEAD:refs/heads/main")
    return folder / "shared.git"


@contextmanager
def worker(pool: str, clone: Path, variables: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--limit", "1"]
    environment = {
        **os.environ,
        **variables,
        "LMADAPT_PROJECT": str(clone),
        "PYTHONPATH": str(clone),
    }
    with clone.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, cwd=clone, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def runs(api: str) -> list[dict[str, Any]]:
    return list(httpx.post(f"{api}/flow_runs/filter", json={"sort": "START_TIME_ASC"}).json())


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_scheduled_run_uses_each_stage_s_pool_and_registers_a_version(
    tmp_path: Path, tiny_model: Path
) -> None:
    shared = shared_project(tmp_path, tiny_model)
    for name in AGENTS.values():
        run(tmp_path, "git", "clone", "-q", "-b", "main", str(shared), name)
    with ExitStack() as running:
        _, addresses = running.enter_context(servers(tmp_path / "servers"))
        variables = addresses | {
            "DO_NOT_TRACK": "true",
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        clone = tmp_path / AGENTS["control"]
        for pool in [*AGENTS, "lmadapt"]:
            run(clone, "prefect", "work-pool", "create", pool, "--type", "process", **variables)
        deploy = "prefect --no-prompt deploy --prefect-file infra/prefect.yaml --all"
        run(clone, *deploy.split(), **variables)
        schedule = "prefect deployment schedule create pipeline/nightly --cron"
        run(clone, *schedule.split(), "* * * * *", **variables)
        for pool, name in AGENTS.items():
            running.enter_context(worker(pool, tmp_path / name, variables))
        deadline, nightly, found = time.monotonic() + SECONDS, [], []
        while time.monotonic() < deadline and not (nightly and nightly[0]["state_type"] in ENDED):
            time.sleep(2)
            found = runs(with_password(addresses))
            nightly = [
                one for one in found if one["work_pool_name"] == "control" and one["start_time"]
            ]
        logs = "\n".join(file.read_text() for file in tmp_path.glob("*.log"))
        assert nightly[:1], logs[-6000:]
        assert nightly[0]["state_type"] == "COMPLETED", logs[-6000:]
        (version,) = MlflowClient(addresses["MLFLOW_TRACKING_URI"]).search_model_versions(
            "name = 'tiny'"
        )
    assert version.tags["status"] == "verified"
    assert nightly[0]["auto_scheduled"]
    pools = {
        one["parameters"]["stage"]: one["work_pool_name"]
        for one in found
        if "stage" in one["parameters"]
    }
    expected = dict.fromkeys(("fetch", "curate", "validate", "register"), "cpu")
    assert pools == expected | dict.fromkeys(("pretrain", "sft", "evaluate"), "gpu")
    branch = f"runs/{nightly[0]['name']}"
    left = run(
        tmp_path, "git", "--git-dir", str(shared), "ls-tree", "-r", "--name-only", branch
    ).splitlines()
    assert {"dvc.lock", "results/evaluate.json", "results/register.json"} <= set(left)
