"""One stage on one of several agents, which share a git remote and a DVC remote and have a checkout of their own each.

An agent can neither run a stage before its own nor train on the output of an older one: `dvc repro` compares the
whole graph (no `--single-item`), and what it would have to run first is refused by flows/one_stage.sh.
"""

import shutil
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
    changed = git(project, "status", "--porcelain", "--untracked-files=no").splitlines()
    if edited := [line[3:] for line in changed if line[3:] != "dvc.lock"]:
        raise StageFailed("checkout", NOT_HANDED_OVER, [f"edited in {project}: {', '.join(edited)}; commit or undo it"])
    git(project, "fetch", "--quiet", "origin")
    git(project, "checkout", "--quiet", "--force", "--detach", commit)
    if not git(project, "ls-files", "dvc.lock"):
        (project / "dvc.lock").unlink(missing_ok=True)  # of another commit


def publish(stage: str, branch: str, project: Path) -> str:
    """Push dvc.lock and what the stage measured as a commit to `branch` of origin, never forced; the commit."""
    measured, result = project / f"metrics/{stage}.json", project / f"results/{stage}.json"
    if measured.is_file():  # metrics/ is DVC's, which git must not track; results/ is for who reads the branch
        result.parent.mkdir(exist_ok=True)
        shutil.copyfile(measured, result)
    files = ["dvc.lock", *([f"results/{stage}.json"] if result.is_file() else [])]
    return commit_all(project, files, f"Run {stage}", branch)


def commit_all(project: Path, files: list[str], message: str, branch: str) -> str:
    """Push the files as a commit on top of the checked out one, if they differ, to `branch` of origin; the commit."""
    git(project, "add", *files)
    if git(project, "diff", "--cached", "--name-only"):
        git(project, "-c", "user.name=lmadapt", "-c", "user.email=lmadapt@localhost", "commit", "-qm", message)
    git(project, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    return git(project, "rev-parse", "HEAD")


def remote_commit(project: Path, branch: str) -> str:
    """The commit of the branch of origin; empty where there is no such branch."""
    return git(project, "ls-remote", "origin", f"refs/heads/{branch}").partition("\t")[0]


def git(project: Path, *arguments: str) -> str:
    """What a git command says, without the last line break; raises StageFailed with its exit code."""
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"git {arguments[0]}", done.returncode, done.stderr.splitlines())
    return done.stdout.rstrip("\n")
