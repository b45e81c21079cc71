"""One stage on one of several agents, which share a git remote and a DVC remote and have a checkout of their own each.

An agent can neither run a stage before its own nor train on the output of an older one: `dvc repro` compares the
whole graph (no `--single-item`), and what it would have to run first is refused by flows/one_stage.sh.
"""

import subprocess
from pathlib import Path

from flows.run_stage import Log, Outcome, StageFailed, dvc, run_stage

NOT_HANDED_OVER = 78  # what flows/one_stage.sh exits with


def hand_over(stage: str, commit: str, branch: str, project: Path, log: Log) -> tuple[Outcome, str]:
    """Run one stage at `commit`; push its outputs, then dvc.lock as a commit to `branch`; the outcome and that commit.

    Without a change of dvc.lock the commit is the one that was given. Raises StageFailed: 78 when an earlier stage
    was not handed over; what DVC or git say when a pull or a push fails, as when another run wrote to `branch`.
    """
    check_out(commit, project)
    try:
        outcome = run_stage(stage, project, log, alone=True)[stage]
    except StageFailed as failure:
        if failure.exit_code != NOT_HANDED_OVER or failure.stage == stage:
            raise
        why = (
            f"{failure.stage} comes before it and has no output for this commit in the DVC remote; run it on its agent"
        )
        raise StageFailed(stage, NOT_HANDED_OVER, [f"{why} first, or `dvc push --run-cache` where it ran"]) from failure
    exit_code, lines = dvc(["push", "--run-cache", stage], project, log, {})
    if exit_code:
        raise StageFailed(stage, exit_code, ["dvc push failed: " + "; ".join(lines[-3:])])
    return outcome, publish(stage, branch, project)


def check_out(commit: str, project: Path) -> None:
    """Check out the exact commit; an uncommitted dvc.lock is lost, other edits raise StageFailed."""
    changed = _git(project, "status", "--porcelain", "--untracked-files=no").splitlines()
    if edited := [line[3:] for line in changed if line[3:] != "dvc.lock"]:
        raise StageFailed("checkout", NOT_HANDED_OVER, [f"edited in {project}: {', '.join(edited)}; commit or undo it"])
    _git(project, "fetch", "--quiet", "origin")
    _git(project, "checkout", "--quiet", "--force", "--detach", commit)
    if not _git(project, "ls-files", "dvc.lock"):
        (project / "dvc.lock").unlink(missing_ok=True)  # of another commit


def publish(stage: str, branch: str, project: Path) -> str:
    """Push dvc.lock as a commit on top of the checked out one to `branch` of origin, never forced; the commit."""
    _git(project, "add", "dvc.lock")
    if _git(project, "diff", "--cached", "--name-only"):
        _git(project, "-c", "user.name=lmadapt", "-c", "user.email=lmadapt@localhost", "commit", "-qm", f"Run {stage}")
    _git(project, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    return _git(project, "rev-parse", "HEAD").strip()


def _git(project: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"git {arguments[0]}", done.returncode, done.stderr.splitlines())
    return done.stdout
