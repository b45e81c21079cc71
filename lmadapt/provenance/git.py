"""Asks git for the commit of a project and for what was changed since."""

import os
import subprocess
from pathlib import Path

from lmadapt.provenance.document import GitState


class _GitRefused(Exception):
    """Git could not say; the message is git's own."""


def git_state(project: Path) -> GitState:
    """The commit and the changed files; without a commit outside a repository.

    Where git refuses to answer, as in a checkout that another account owns, `problem` says why.
    dvc.lock does not count as changed, because DVC rewrites it while the pipeline runs.
    """
    try:
        commit = _git(project, "rev-parse", "--verify", "--quiet", "HEAD")
        changes = _git(project, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
    except _GitRefused as refused:
        return GitState(commit=None, changed_files=[], problem=str(refused))
    return GitState(
        commit=commit.strip() or None,
        changed_files=[line[3:] for line in changes.splitlines()],
    )


def _git(project: Path, *arguments: str) -> str:
    """What git prints; "" outside a repository, and where it finds nothing."""
    command = ["git", *arguments]
    in_english = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, cwd=project, env=in_english, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        if any((folder / ".git").exists() for folder in [project, *project.resolve().parents]):
            raise _GitRefused("git is not installed") from None
        return ""
    said = done.stderr.strip()
    if done.returncode != 0 and said and "not a git repository" not in said:
        raise _GitRefused(said.splitlines()[0])
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""
