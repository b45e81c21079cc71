"""Asks git for the commit of a project and for what was changed since."""

import subprocess
from pathlib import Path

from lmadapt.provenance.document import GitState


def git_state(project: Path) -> GitState:
    """The commit and the changed files; without a commit where there is no git or repository.

    dvc.lock does not count as changed, because DVC rewrites it while the pipeline runs.
    """
    commit = _git(project, "rev-parse", "HEAD")
    changes = _git(project, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
    return GitState(
        commit=commit.strip() if commit else None,
        changed_files=[line[3:] for line in (changes or "").splitlines()],
    )


def _git(project: Path, *arguments: str) -> str | None:
    """What git prints; None when git is missing or fails."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
