"""One stage through the `dvc` command: its lines as they come, what became of it, and no orphan when anything dies."""

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["ran", "unchanged", "restored from cache"]
Log = Callable[[str], None]
SUPERVISOR = Path(__file__).with_name("supervise.py")
ONE_STAGE = Path(__file__).with_name("one_stage.sh")
TEMPORARY_FAILURE = (
    75  # EX_TEMPFAIL of sysexits.h: what a stage exits with when a second try may pass
)

# What dvc 3.67 says about a stage, one line each.
SAID: dict[Outcome, re.Pattern[str]] = {
    "ran": re.compile(r"Running stage '(.+)'"),
    "unchanged": re.compile(r"Stage '(.+)' didn't change, skipping"),
    "restored from cache": re.compile(
        r"^(?:Stage|Pulling data for stage:) '(.+?)'(?: is cached - skipping run|$)"
    ),
}
FAILED = re.compile(r"failed to reproduce '(.+?)'")
EXITED = re.compile(r"exited with (-?\d+)")


@dataclass
class StageFailed(Exception):
    """`dvc repro` failed: in which stage, with that stage's own exit code (dvc's where it has none), its last lines."""

    stage: str
    exit_code: int
    last_lines: list[str]

    def __str__(self) -> str:
        why = next((line for line in reversed(self.last_lines) if line.strip()), "it said nothing")
        return f"stage {self.stage} failed with exit code {self.exit_code}: {why}"


def run_stage(
    stage: str,
    project: Path,
    log: Log,
    *,
    alone: bool = False,
    ending: threading.Event | None = None,
) -> dict[str, Outcome]:
    """`dvc repro STAGE` in `project`; what became of the stage and of each one before it, by name.

    `alone`: what comes before is taken from the DVC remote, never run. Each line of output goes to `log` at once.
    Raises StageFailed; ends every process it started when interrupted, or when `ending` is set.
    """
    only = {"SHELL": str(ONE_STAGE), "LMADAPT_ONE_STAGE": stage} if alone else {}
    exit_code, lines = dvc(
        ["repro", *(["--pull"] if alone else []), stage], project, log, only, ending
    )
    if exit_code:
        last_lines = lines[-30:]
        text = "\n".join(last_lines)
        failed, exited = FAILED.search(text), EXITED.findall(text)
        raise StageFailed(
            failed[1] if failed else stage, int(exited[-1]) if exited else exit_code, last_lines
        )
    return {
        said[1]: outcome
        for line in lines
        for outcome, pattern in SAID.items()
        if (said := pattern.search(line))
    }


def dvc(
    arguments: list[str],
    project: Path,
    log: Log,
    environment: dict[str, str],
    ending: threading.Event | None = None,
) -> tuple[int, list[str]]:
    """`dvc ARGUMENTS` in a session of its own, its lines to `log` as they come; its exit code and its last lines."""
    # This Python first on PATH, since the commands in dvc.yaml say `python`.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    lines: deque[str] = deque(maxlen=100_000)
    with subprocess.Popen(
        [
            sys.executable,
            str(SUPERVISOR),
            str(os.getpid()),
            sys.executable,
            "-m",
            "dvc",
            *arguments,
        ],
        cwd=project,
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout
        if ending:
            threading.Thread(target=_end_when, args=(ending, process), daemon=True).start()
        try:
            for line in map(str.rstrip, process.stdout):
                log(line)
                lines.append(line)
        except BaseException:
            process.terminate()
            process.wait()  # the supervisor needs at most twice its grace
            raise
    return process.returncode, list(lines)


def _end_when(told: threading.Event, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None:
        if told.wait(0.5):
            return process.terminate()
