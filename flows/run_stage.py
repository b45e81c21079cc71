"""One stage through the `dvc` command.

Its lines are logged as they come, its outcome is read from them, and no process is left when
anything dies.
"""

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

StageOutcome = Literal["ran", "unchanged", "restored from cache"]
Log = Callable[[str], None]
SUPERVISOR = Path(__file__).with_name("supervise.py")
DVC = (sys.executable, "-m", "dvc")
ONE_STAGE = Path(__file__).with_name("one_stage.sh")
# EX_TEMPFAIL of sysexits.h: the exit code of a stage when a retry may succeed.
TEMPORARY_FAILURE = 75

# The lines of dvc 3.67 that tell a stage's outcome.
SAID: dict[StageOutcome, re.Pattern[str]] = {
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
    """A stage, or a step around it, failed."""

    stage: str
    exit_code: int  # the stage's own; dvc's where the stage has none
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
    stop: threading.Event | None = None,
) -> dict[str, StageOutcome]:
    """`dvc repro STAGE` in `project`; the outcomes of the stage and of each earlier one, by name.

    With `alone`, outputs of earlier stages come from the DVC remote, and these stages never run.
    Each line of output goes to `log` at once. Raises StageFailed. Ends every process it started
    when it is interrupted, or when `stop` is set.
    """
    arguments, environment = ["repro", stage], {}
    if alone:
        arguments = ["repro", "--pull", stage]
        environment = {"SHELL": str(ONE_STAGE), "LMADAPT_ONE_STAGE": stage}
    exit_code, lines = dvc(arguments, project, log, environment, stop)
    if exit_code:
        raise stage_failure(stage, exit_code, lines[-30:])
    return stage_outcomes(lines)


def stage_failure(stage: str, exit_code: int, last_lines: list[str]) -> StageFailed:
    """The stage that failed and its exit code as dvc's lines name them; else those given."""
    text = "\n".join(last_lines)
    failed, exited = FAILED.search(text), EXITED.findall(text)
    return StageFailed(
        failed[1] if failed else stage, int(exited[-1]) if exited else exit_code, last_lines
    )


def stage_outcomes(lines: Sequence[str]) -> dict[str, StageOutcome]:
    """The outcome of each stage that dvc's lines name."""
    outcomes: dict[str, StageOutcome] = {}
    for line in lines:
        for outcome, pattern in SAID.items():
            said = pattern.search(line)
            if said:
                outcomes[said[1]] = outcome
    return outcomes


def dvc(
    arguments: Sequence[str],
    project: Path,
    log: Log,
    environment: dict[str, str],
    stop: threading.Event | None = None,
) -> tuple[int, list[str]]:
    """`dvc ARGUMENTS` in a session of its own; its exit code and its last lines.

    Each line goes to `log` at once.
    """
    supervised = [sys.executable, str(SUPERVISOR), str(os.getpid())]
    # The commands in dvc.yaml say `python`: it must be this one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    lines: deque[str] = deque(maxlen=100_000)
    with subprocess.Popen(
        [*supervised, *DVC, *arguments],
        cwd=project,
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout
        if stop:
            threading.Thread(target=_end_when, args=(stop, process), daemon=True).start()
        try:
            for line in map(str.rstrip, process.stdout):
                log(line)
                lines.append(line)
        except BaseException:
            process.terminate()
            process.wait()  # for at most twice the supervisor's GRACE_SECONDS
            raise
    return process.returncode, list(lines)


def _end_when(stop: threading.Event, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None:
        if stop.wait(0.5):
            return process.terminate()
