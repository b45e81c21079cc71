"""An agent: check this machine, then take runs of one work pool, one at a time: `python infra/agent/agent.py POOL`.

With POOL/QUEUE, or POOL/QUEUE/QUEUE, it takes runs of these work queues alone. On SIGTERM it takes no more runs, has
the one under way end (a training writes a checkpoint, and goes on at another agent), and exits with 0. It exits with
78 when a check fails.
Read from the environment: LMADAPT_PROJECT (its own checkout), PREFECT_API_URL, LMADAPT_FREE_GB (default 20), and
CUDA_VISIBLE_DEVICES, which must name one GPU where it is set.
"""

import asyncio
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import prefect
import psutil
from prefect.client.orchestration import get_client
from prefect.workers.process import ProcessWorker

NOT_FIT = 78  # EX_CONFIG of sysexits.h
COMMAND_SECONDS = 60
CLOCK_SECONDS = 30.0  # a heartbeat: what the clock of an agent may be off that of the server


def problems(project: Path, gpu: str | None, free_gb: float) -> list[str]:
    """What keeps this machine from running stages, a sentence each; `unfit_for_server` asks for the rest."""
    found = [*wrong_versions(project / "requirements.lock"), *wrong_gpu(gpu)]
    if (free := shutil.disk_usage(project).free / 1e9) < free_gb:
        found.append(f"{project} has {free:.0f} GB free, LMADAPT_FREE_GB asks for {free_gb:.0f}")
    if said := failure("git", "ls-remote", "--quiet", "origin", "HEAD", folder=project):
        found.append(f"the git remote origin does not answer: {said}")
    ask = "from dvc.repo import Repo; odb = Repo().cloud.get_remote_odb(); odb.fs.exists(odb.path)"
    if said := failure(sys.executable, "-c", ask, folder=project):
        found.append(f"the DVC remote does not answer: {said}")
    return found


def wrong_versions(lock: Path) -> list[str]:
    """Packages that stages and flows need in another version than the lock has; local parts (+cpu) aside."""
    wanted = dict(
        line.split("==") for line in lock.read_text(encoding="utf-8").split() if "==" in line
    )
    found = []
    for name in ("dvc", "mlflow", "prefect", "torch", "transformers"):
        have = importlib.metadata.version(name).partition("+")[0]
        if name in wanted and have != wanted[name].partition("+")[0]:
            found.append(f"{name} is {have}, {lock.name} has {wanted[name]}; run `make install`")
    return found


def wrong_gpu(gpu: str | None) -> list[str]:
    """Whether the one GPU of CUDA_VISIBLE_DEVICES is there and its driver answers; nothing without that variable."""
    if gpu is None:
        return []
    if not gpu or "," in gpu:
        return [f"CUDA_VISIBLE_DEVICES is {gpu!r}; an agent has one GPU, such as 0"]
    said = failure(
        "nvidia-smi",
        "-i",
        gpu,
        "--query-gpu=driver_version",
        "--format=csv,noheader",
        folder=Path("/"),
    )
    return [f"GPU {gpu} does not answer: {said}"] if said else []


def failure(*command: str, folder: Path) -> str:
    """The last line that a failing command said; empty when it succeeded."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (
        ""
        if done.returncode == 0
        else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    )


async def unfit_for_server(pool: str) -> list[str]:
    """Why the Prefect server has no such pool for us, or that our clock is not its own."""
    try:
        async with get_client() as client:
            await client.read_work_pool(pool)
            date = (await client.hello()).headers.get("date")
    except Exception as error:  # httpx's and Prefect's own
        return [f"work pool {pool}: {type(error).__name__}: {error}"]
    return wrong_clock(date)


def wrong_clock(date: str | None) -> list[str]:
    """Whether this machine's clock is far from that which a server put into the header `Date` (RFC 9110, 6.6.1).

    A worker asks for runs that are due by its own clock: an hour behind, it takes them an hour late.
    """
    if date is None:
        return []
    ahead = time.time() - parsedate_to_datetime(date).timestamp()
    if abs(ahead) <= CLOCK_SECONDS:
        return []
    where = "ahead of" if ahead > 0 else "behind"
    return [
        f"the clock is {abs(ahead):.0f} s {where} the Prefect server's; at most {CLOCK_SECONDS:.0f} s are allowed"
    ]


warnings.filterwarnings(
    "ignore", message="Type 'Agent'"
)  # it takes the place of the process worker on purpose


class Agent(ProcessWorker):
    """Prefect's process worker, which can end without losing what its run has done."""

    draining = False
    polling: asyncio.Lock

    async def get_and_submit_flow_runs(self) -> list[Any]:
        """Take what is due, unless draining."""
        async with self.polling:
            return [] if self.draining else await super().get_and_submit_flow_runs()

    async def drain(self) -> None:
        """Take no more; tell what runs to end; return when it has."""
        self.draining, told = True, set[int]()
        async with self.polling:
            pass
        while self.limiter.borrowed_tokens:
            for process in psutil.Process().children():
                if process.pid not in told:
                    process.terminate()
                    told.add(process.pid)
            await asyncio.sleep(0.5)


async def serve(pool: str, work_queues: list[str]) -> None:
    """Take runs until SIGTERM or SIGINT."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    agent = Agent(work_pool_name=pool, work_queues=work_queues, limit=1)
    agent.polling = asyncio.Lock()
    working, waiting = asyncio.create_task(agent.start()), asyncio.create_task(told.wait())
    await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        return working.result()
    print("agent: told to end; it takes no more runs", flush=True)
    await agent.drain()
    working.cancel()
    await asyncio.wait([working])


def main() -> None:
    """Check, then serve the pool on the command line."""
    if len(sys.argv) != 2 or "LMADAPT_PROJECT" not in os.environ:
        sys.exit(
            "usage: LMADAPT_PROJECT=CHECKOUT PREFECT_API_URL=ADDRESS python infra/agent/agent.py POOL[/QUEUE]"
        )
    project, (pool, *work_queues) = Path(os.environ["LMADAPT_PROJECT"]), sys.argv[1].split("/")
    free_gb = float(os.environ.get("LMADAPT_FREE_GB", "20"))
    found = problems(project, os.environ.get("CUDA_VISIBLE_DEVICES"), free_gb) + asyncio.run(
        unfit_for_server(pool)
    )
    for problem in found:
        print(f"agent: {problem}", file=sys.stderr)
    if found:
        sys.exit(NOT_FIT)
    print(f"agent: Prefect {prefect.__version__}, pool {sys.argv[1]}, {project}", flush=True)
    os.chdir(project)
    asyncio.run(serve(pool, work_queues))


if __name__ == "__main__":
    main()
