"""The git command, as flows use it."""

import subprocess
from pathlib import Path

from flows.run_stage import StageFailed


def git(project: Path, *arguments: str) -> str:
    """What a git command says, without the last line break; raises StageFailed with its exit code."""
    done = subprocess.run(
        ["git", *arguments], cwd=project, capture_output=True, text=True, check=False
    )
    if done.returncode:
        command = next(one for one in arguments if one[0] != "-" and "=" not in one)
        raise StageFailed(f"git {command}", done.returncode, done.stderr.splitlines())
    return done.stdout.rstrip("\n")
