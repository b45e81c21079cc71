"""The git command, as flows use it."""

import subprocess
import threading
from pathlib import Path

from flows.run_stage import StageFailed

# Held while git writes to a checkout that several runs of one process share (flows/sweep.py).
CHECKOUT = threading.Lock()
COMMITTER = ("-c", "user.name=lmadapt", "-c", "user.email=lmadapt@localhost")


def git(project: Path, *arguments: str) -> str:
    """The output of a git command, without the last line break.

    Raises StageFailed with git's exit code when the command fails.
    """
    done = subprocess.run(
        ["git", *arguments], cwd=project, capture_output=True, text=True, check=False
    )
    if done.returncode:
        command = next(one for one in arguments if one[0] != "-" and "=" not in one)
        raise StageFailed(f"git {command}", done.returncode, done.stderr.splitlines())
    return done.stdout.rstrip("\n")


def remote_ref(project: Path, ref: str) -> str:
    """The commit of exactly this ref (`refs/…`) of origin; empty where there is no such ref.

    `git ls-remote` also lists every ref that ends in the name it is asked for.
    """
    for line in git(project, "ls-remote", "origin", ref).splitlines():
        commit, _, name = line.partition("\t")
        if name == ref:
            return commit
    return ""
