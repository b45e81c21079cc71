"""Real servers, and workers in clones of a small project, for tests of faults."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.servers import servers, with_password

ROOT = Path(__file__).parents[2]
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
# A slow stage that continues from its newest checkpoint.
TRAIN = """
import os, sys, time
from pathlib import Path
folder = Path(".lmadapt/checkpoints/train-0123")
found = sorted(folder.glob("checkpoint-*/step"), key=lambda file: int(file.read_text()))
step = int(found[-1].read_text()) if found else 0
with open(os.environ["RAN"], "a") as log:
    log.write(f"train from {step} in {Path.cwd().name} as {os.getpid()}\\n")
while step < STEPS:
    time.sleep(1)
    step += 1
    written = folder / f"checkpoint-{step}"
    written.mkdir(parents=True)
    (written / "step").write_text(str(step))
    (written / "sizes.json").write_text("{}")
Path("model.txt").write_text(f"{step} steps on {Path('data.txt').read_text()}")
"""
GRAPH = """
stages:
  curate:
    cmd: echo curate >> $RAN && cp source.txt data.txt
    deps: [source.txt]
    outs: [data.txt]
  train:
    cmd: python train.py
    deps: [data.txt, train.py]
    outs: [model.txt]
  register:
    cmd: echo register >> $RAN && cat model.txt > version.txt
    deps: [model.txt]
    outs: [version.txt]
"""


def run(folder: Path, *command: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def push(project: Path, **files: str) -> str:
    """Write the files (`source_txt` is source.txt), push all changes to main; the commit."""
    for name, content in files.items():
        (project / name.replace("_", ".")).write_text(content)
    run(project, "git", "add", "-A")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "A change")
    run(project, "git", "push", "-q", "origin", "HEAD:refs/heads/main")
    return run(project, "git", "rev-parse", "HEAD")


@dataclass
class Team:
    """Servers, clones and workers in a folder; `variables` are in the environment of all."""

    folder: Path
    variables: dict[str, str]
    workers: dict[str, "subprocess.Popen[bytes]"]
    running: ExitStack
    servers: "subprocess.Popen[str]"

    def kill_servers(self) -> None:
        """Kill -9 PostgreSQL, Prefect and MLflow at once; their supervisors then end."""
        import psutil

        for process in psutil.Process(self.servers.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if not any("supervise.py" in part for part in process.cmdline()):
                    process.kill()
        self.servers.wait(60)

    def start_servers(self) -> None:
        """Start them again at the same addresses, with their data."""
        self.servers, _ = self.running.enter_context(servers(self.folder / "servers"))

    @property
    def api(self) -> str:
        return with_password(self.variables)

    def start_worker(self, name: str, pool: str, *work_queues: str, **own: str) -> None:
        """Start a worker of a pool, or of queues of it, in a clone with `own` variables."""
        command = ["-m", "prefect", "worker", "start", "--pool", pool, "--limit", "1"]
        for queue in work_queues:
            command += ["--work-queue", queue]
        self._start(name, command, own)

    def start_agent(self, name: str, pool: str) -> None:
        """Start infra/agent/agent.py, a worker that also checks its machine."""
        self._start(name, ["infra/agent/agent.py", pool], {"LMADAPT_FREE_GB": "0"})

    def _start(self, name: str, command: list[str], own: dict[str, str]) -> None:
        clone = self.folder / name
        if not clone.exists():
            run(self.folder, "git", "clone", "-q", "-b", "main", "shared.git", name)
        own = own | {"LMADAPT_PROJECT": str(clone), "PYTHONPATH": str(clone)}
        with clone.with_suffix(".log").open("ab") as log:
            self.workers[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=clone,
                env=os.environ | self.variables | own,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def begin(self, deployed: str = "pipeline/nightly", **parameters: Any) -> str:
        """Start a run of a deployment; its id."""
        deployment = httpx.get(f"{self.api}/deployments/name/{deployed}").json()["id"]
        made = httpx.post(
            f"{self.api}/deployments/{deployment}/create_flow_run",
            json={"state": {"type": "SCHEDULED"}, "parameters": {"revision": "main", **parameters}},
        )
        return str(made.json()["id"])

    def flow_run(self, run_id: str) -> dict[str, Any]:
        return dict(httpx.get(f"{self.api}/flow_runs/{run_id}").json())

    def runs(self) -> list[dict[str, Any]]:
        return list(
            httpx.post(f"{self.api}/flow_runs/filter", json={"sort": "START_TIME_ASC"}).json()
        )

    def ended(self, run_id: str, seconds: float) -> dict[str, Any]:
        """Wait until the run ends; the run."""
        self.until(lambda: self.flow_run(run_id)["state_type"] in ENDED, seconds)
        return self.flow_run(run_id)

    def until(self, there: Callable[[], Any], seconds: float) -> float:
        """The seconds until `there` is true; fails after `seconds`, with the workers' logs."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            try:
                if there():
                    return time.monotonic() - began
            except httpx.HTTPError:
                pass
            time.sleep(0.3)
        logs = "\n".join(
            f"--- {file.name}\n{file.read_text()[-5000:]}" for file in self.folder.glob("*.log")
        )
        raise AssertionError(f"not within {seconds} s; {logs}")

    def ran(self) -> list[str]:
        """The lines that stages wrote when they started."""
        file = self.folder / "ran.txt"
        return file.read_text().splitlines() if file.exists() else []

    def in_branch(self, run_id: str, name: str) -> str:
        """A file on the branch of a run."""
        branch = f"runs/{self.flow_run(run_id)['name']}"
        return run(self.folder, "git", "--git-dir", "shared.git", "show", f"{branch}:{name}")

    def push(self, **files: str) -> str:
        """Push new content to main from a clone that is no agent's; the commit."""
        return push(self.folder / "project", **files)

    def power_off(self, name: str) -> None:
        """Kill -9 the worker and all its processes at once."""
        worker = self.workers.pop(name)
        for process in [*descendants(worker.pid), worker.pid]:
            os.kill(process, signal.SIGSTOP)
        for process in [*descendants(worker.pid), worker.pid]:
            os.kill(process, signal.SIGKILL)
        worker.wait()


def descendants(root: int) -> list[int]:
    """All processes below a process."""
    import psutil

    return [child.pid for child in psutil.Process(root).children(recursive=True)]


@contextmanager
def team(folder: Path, *, steps: int) -> Iterator[Team]:
    """A pushed project with servers, pools, deployments and a worker of the pool `control`."""
    make_repository(folder, steps)
    with ExitStack() as running:
        process, addresses = running.enter_context(servers(folder / "servers"))
        variables = addresses | {
            "DO_NOT_TRACK": "true",
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAN": str(folder / "ran.txt"),
        }
        one = Team(folder, variables, {}, running, process)
        project = folder / "project"
        for pool in ("lmadapt", "control", "cpu", "gpu"):
            made = {"name": pool, "type": "process"}  # the prefect command takes three seconds
            httpx.post(f"{one.api}/work_pools/", json=made).raise_for_status()
        deploy = "prefect --no-prompt deploy --prefect-file infra/prefect.yaml --all"
        run(project, *deploy.split(), **variables)
        automate = "prefect automation create --from-file infra/automations.yaml"
        run(project, *automate.split(), **variables)
        one.start_worker("control", "control")
        try:
            yield one
        finally:
            for worker in one.workers.values():
                worker.terminate()
            for worker in one.workers.values():
                worker.wait(60)


def make_repository(folder: Path, steps: int) -> None:
    """Make `project`, its bare repository `shared.git` and the DVC remote `store` in the folder."""
    project = folder / "project"
    run(folder, "git", "init", "-q", "--bare", "shared.git")
    run(folder, "git", "clone", "-q", "shared.git", "project")
    for name in ("flows", "infra", "requirements.lock"):
        run(project, "cp", "-r", str(ROOT / name), ".")
    (project / "dvc.yaml").write_text(GRAPH)
    (project / "train.py").write_text(TRAIN.replace("STEPS", str(steps)))
    (project / "source.txt").write_text("data")
    (project / "params.yaml").write_text("pools:\n  train: gpu\n")
    (project / ".gitignore").write_text(
        "__pycache__/\n.lmadapt/\n/data.txt\n/model.txt\n/version.txt\n"
    )
    dvc = [sys.executable, "-m", "dvc"]
    run(project, *dvc, "init", "-q")
    run(project, *dvc, "config", "core.analytics", "false")
    run(project, *dvc, "remote", "add", "-q", "-d", "store", str(folder / "store"))
    push(project)
