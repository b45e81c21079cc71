"""An agent: checks this machine, then takes runs of one work pool, one at a time.

Usage: `python infra/agent/agent.py POOL[/QUEUE…]`; with queues it takes only their runs. SIGTERM
drains it: it takes no more runs, stops the current one (a training writes a checkpoint, from which
another agent continues), and exits with 0. It exits with 78 when a check fails.

It reads from the environment: LMADAPT_PROJECT (its own checkout), PREFECT_API_URL, LMADAPT_FREE_GB
(default 20), and CUDA_VISIBLE_DEVICES, which must name exactly one GPU if it is set.
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
CLOCK_SECONDS = 30.0  # allowed between the clocks of agent and server: one heartbeat
CHECKED_PACKAGES = ("dvc", "mlflow", "prefect", "torch", "transformers")
USAGE = (
    "usage: LMADAPT_PROJECT=CHECKOUT PREFECT_API_URL=ADDRESS"
    " python infra/agent/agent.py POOL[/QUEUE…]"
)


def problems(project: Path, gpu: str | None, free_gb: float) -> list[str]:
    """Why this machine cannot run stages, a sentence each; `unfit_for_server` checks the rest."""
    found = [*wrong_versions(project / "requirements.lock"), *wrong_gpu(gpu)]
    free = shutil.disk_usage(project).free / 1e9
    if free < free_gb:
        found.append(f"{project} has {free:.0f} GB free, LMADAPT_FREE_GB asks for {free_gb:.0f}")
    said = failure("git", "ls-remote", "--quiet", "origin", "HEAD", folder=project)
    if said:
        found.append(f"the git remote origin does not answer: {said}")
    ask = "from dvc.repo import Repo; odb = Repo().cloud.get_remote_odb(); odb.fs.exists(odb.path)"
    said = failure(sys.executable, "-c", ask, folder=project)
    if said:
        found.append(f"the DVC remote does not answer: {said}")
    return found


def wrong_versions(lock: Path) -> list[str]:
    """The checked packages whose version is not the lock's; local parts (+cpu) are ignored."""
    lines = lock.read_text(encoding="utf-8").split()
    wanted = dict(line.split("==") for line in lines if "==" in line)
    found = []
    for name in CHECKED_PACKAGES:
        have = importlib.metadata.version(name).partition("+")[0]
        if name in wanted and have != wanted[name].partition("+")[0]:
            found.append(f"{name} is {have}, {lock.name} has {wanted[name]}; run `make install`")
    return found


def wrong_gpu(gpu: str | None) -> list[str]:
    """What is wrong with CUDA_VISIBLE_DEVICES, given as `gpu`: it names one GPU that answers.

    Where the variable is not set, nothing is wrong.
    """
    if gpu is None:
        return []
    if not gpu or "," in gpu:
        return [f"CUDA_VISIBLE_DEVICES is {gpu!r}; an agent has one GPU, such as 0"]
    query = ("--query-gpu=driver_version", "--format=csv,noheader")
    said = failure("nvidia-smi", "-i", gpu, *query, folder=Path("/"))
    return [f"GPU {gpu} does not answer: {said}"] if said else []


def failure(*command: str, folder: Path) -> str:
    """The last line of a command that fails; empty when it succeeds."""
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
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1]


async def unfit_for_server(pool: str) -> list[str]:
    """Why the Prefect server cannot give this machine runs of the pool: no pool, or the clock."""
    try:
        async with get_client() as client:
            await client.read_work_pool(pool)
            date = (await client.hello()).headers.get("date")
    except Exception as error:  # httpx's and Prefect's own
        return [f"work pool {pool}: {type(error).__name__}: {error}"]
    return wrong_clock(date)


def wrong_clock(date: str | None) -> list[str]:
    """What is wrong with this machine's clock, given the server's header `Date` (RFC 9110, 6.6.1).

    A worker asks for runs that are due by its own clock: an hour behind, it takes them an hour
    late.
    """
    if date is None:
        return []
    ahead = time.time() - parsedate_to_datetime(date).timestamp()
    if abs(ahead) <= CLOCK_SECONDS:
        return []
    where = "ahead of" if ahead > 0 else "behind"
    return [
        f"the clock is {abs(ahead):.0f} s {where} the Prefect server's;"
        f" at most {CLOCK_SECONDS:.0f} s are allowed"
    ]


# Prefect warns that Agent replaces its process worker; it is meant to.
warnings.filterwarnings("ignore", message="Type 'Agent'")


class Agent(ProcessWorker):
    """Prefect's process worker, which can also stop without losing what its run has done."""

    draining = False
    polling: asyncio.Lock

    async def get_and_submit_flow_runs(self) -> list[Any]:
        """Take the runs that are due, unless draining."""
        async with self.polling:
            return [] if self.draining else await super().get_and_submit_flow_runs()

    async def drain(self) -> None:
        """Take no more runs, tell the current one to stop, and return when it has stopped."""
        self.draining, told = True, set[int]()
        async with self.polling:
            pass  # a poll that has started may still take a run
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
    print("agent: told to stop; it takes no more runs", flush=True)
    await agent.drain()
    working.cancel()
    await asyncio.wait([working])


def main() -> None:
    """Check this machine, then serve the pool of the command line."""
    if len(sys.argv) != 2 or "LMADAPT_PROJECT" not in os.environ:
        sys.exit(USAGE)
    project, (pool, *work_queues) = Path(os.environ["LMADAPT_PROJECT"]), sys.argv[1].split("/")
    free_gb = float(os.environ.get("LMADAPT_FREE_GB", "20"))
    found = problems(project, os.environ.get("CUDA_VISIBLE_DEVICES"), free_gb)
    found += asyncio.run(unfit_for_server(pool))
    for problem in found:
        print(f"agent: {problem}", file=sys.stderr)
    if found:
        sys.exit(NOT_FIT)
    print(f"agent: Prefect {prefect.__version__}, pool {sys.argv[1]}, {project}", flush=True)
    os.chdir(project)
    asyncio.run(serve(pool, work_queues))


if __name__ == "__main__":
    main()
