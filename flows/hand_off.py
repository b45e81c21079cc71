"""One stage on one of several agents, each with its own checkout and all with the same remotes.

The agents share a git remote and a DVC remote. No agent can run a stage before its own, or train on
the output of an older one: `dvc repro` compares the whole graph (without `--single-item`), and
flows/one_stage.sh refuses whatever would have to run first.
"""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.git import COMMITTER, git, remote_ref
from flows.lease import LEASE_LOST, check_lease, lease_of, push_with_lease
from flows.run_stage import TEMPORARY_FAILURE, Log, StageFailed, StageOutcome, dvc, run_stage
from flows.shared_store import drop_checkpoints, pull_checkpoints, push_checkpoints, set_up_cache

NOT_HANDED_OVER = 78  # the exit code of flows/one_stage.sh
PULSE_SECONDS = 10.0  # between two checks of the lease and of new checkpoints, during a stage


def hand_over(
    stage: str, commit: str, branch: str, project: Path, log: Log
) -> tuple[StageOutcome, str]:
    """Run one stage at `commit`, push its outputs, and push dvc.lock as a commit to `branch`.

    Returns the outcome and that commit; where dvc.lock does not change, it is the given one. Raises
    StageFailed with 78 when the output of an earlier stage is missing; with 75 when a retry may
    succeed, as when the DVC remote does not answer; with 77 when another agent has taken the run
    over; with git's exit code when a push fails, as when another run wrote to `branch`. Raises
    ValueError for a `branch` outside runs/, and for names that git or DVC would take for options.
    """
    check_names(stage, commit, branch)
    check_out(commit, project)
    with lease_of(project, branch) as lease:
        with using_the_store(stage):
            set_up_cache(project)
            for name in pull_checkpoints(project, branch, stage):
                log(f"another agent's checkpoint {name} is here")
        with pulse(stage, branch, lease, project, log) as taken_over:
            outcome = run_alone(stage, project, log, taken_over)
        check_lease(project, branch, lease)
        exit_code, lines = dvc(["push", "--run-cache", stage], project, log, {})
        if exit_code:
            said = "; ".join(lines[-3:])
            raise StageFailed(stage, TEMPORARY_FAILURE, [f"dvc push failed: {said}"])
        with using_the_store(stage):
            drop_checkpoints(project, branch, stage)
        return outcome, publish(stage, branch, project, lease)


def check_names(stage: str, commit: str, branch: str) -> None:
    """Raise ValueError unless a run may have these: whoever starts a flow chooses them."""
    if not re.fullmatch(r"\w[\w@.-]*", stage):
        raise ValueError(f"stage: {stage!r} is no stage; allowed: the name of a stage in dvc.yaml")
    if not re.fullmatch("[0-9a-f]{7,64}", commit):
        raise ValueError(f"commit: {commit!r} is no commit; allowed: its hexadecimal digits")
    known = ["git", "check-ref-format", f"refs/heads/{branch}"]
    if not branch.startswith("runs/") or subprocess.run(known, check=False).returncode:
        raise ValueError(
            f"branch: {branch!r} is no branch of a run; allowed: runs/NAME, as git names branches"
        )


def run_alone(stage: str, project: Path, log: Log, taken_over: threading.Event) -> StageOutcome:
    """Run the stage and no earlier one; StageFailed says why an earlier one's output is missing."""
    try:
        return run_stage(stage, project, log, alone=True, stop=taken_over)[stage]
    except StageFailed as failure:
        if taken_over.is_set():
            why = "stopped: another agent has taken this run over"
            raise StageFailed(stage, LEASE_LOST, [why]) from failure
        if failure.stage == stage:
            raise
        raise earlier_stage_failed(stage, failure) from failure


def earlier_stage_failed(stage: str, failure: StageFailed) -> StageFailed:
    """The failure of `stage` that follows from the failure of an earlier one."""
    if failure.exit_code != NOT_HANDED_OVER:  # all that an agent does for it is fetch its output
        return StageFailed(stage, TEMPORARY_FAILURE, failure.last_lines)
    # DVC asks for an output only when the stage ran on exactly these inputs: the output exists, and
    # may still be on its way.
    asked = f"Unable to pull data for stage: '{failure.stage}'"
    on_its_way = any(asked in line for line in failure.last_lines)
    why = (
        f"{failure.stage} comes before it and has no output for this commit in the DVC remote;"
        " run it on its agent first, or run `dvc push --run-cache` where it ran"
    )
    return StageFailed(stage, TEMPORARY_FAILURE if on_its_way else NOT_HANDED_OVER, [why])


@contextmanager
def using_the_store(stage: str) -> Iterator[None]:
    """Any error in the block is StageFailed with 75: a remote that fails may answer later."""
    try:
        yield
    except Exception as error:  # each kind of remote raises its own
        why = f"the DVC remote does not answer: {error}"
        raise StageFailed(stage, TEMPORARY_FAILURE, [why]) from error


@contextmanager
def pulse(
    stage: str, branch: str, lease: str, project: Path, log: Log
) -> Iterator[threading.Event]:
    """While the block runs, send its checkpoints, and set the event when the lease is lost.

    When the block fails, its last checkpoint is sent too.
    """
    taken_over, done, sent = threading.Event(), threading.Event(), set[str]()

    def beat() -> None:
        try:
            check_lease(project, branch, lease)
            push_checkpoints(project, branch, stage, sent)
        except StageFailed as failure:
            if failure.exit_code == LEASE_LOST:
                return taken_over.set()
            log(f"the lease could not be checked: {failure}")
        except Exception as error:  # the remote is away, or the checkpoint was replaced: try again
            log(f"no checkpoint was sent: {error}")

    def beats() -> None:
        while not taken_over.is_set() and not done.wait(PULSE_SECONDS):
            beat()

    thread = threading.Thread(target=beats, daemon=True)
    thread.start()
    try:
        try:
            yield taken_over
        finally:
            done.set()
            thread.join()
    except BaseException:
        beat()  # sends what the stage wrote when it was stopped
        raise


def check_out(commit: str, project: Path) -> None:
    """Check out exactly this commit, over an uncommitted dvc.lock.

    Raises StageFailed when another tracked file has edits.
    """
    changed = git(project, "status", "--porcelain", "--untracked-files=no").splitlines()
    edited = [line[3:] for line in changed if line[3:] != "dvc.lock"]
    if edited:
        why = f"edited in {project}: {', '.join(edited)}; commit or undo it"
        raise StageFailed("checkout", NOT_HANDED_OVER, [why])
    git(project, "fetch", "--quiet", "origin")
    git(project, "checkout", "--quiet", "--force", "--detach", commit)
    if not git(project, "ls-files", "dvc.lock"):
        (project / "dvc.lock").unlink(missing_ok=True)  # left by another commit


def publish(stage: str, branch: str, project: Path, lease: str = "") -> str:
    """Push dvc.lock and the stage's metrics as a commit to `branch` of origin; that commit.

    DVC tracks metrics/, so git must not; results/ holds a copy for whoever reads the branch.
    """
    measured, result = project / f"metrics/{stage}.json", project / f"results/{stage}.json"
    if measured.is_file():
        result.parent.mkdir(exist_ok=True)
        shutil.copyfile(measured, result)
    files = ["dvc.lock"]
    if result.is_file():
        files.append(f"results/{stage}.json")
    return commit_all(project, files, f"Run {stage}", branch, lease)


def commit_all(project: Path, files: list[str], message: str, branch: str, lease: str = "") -> str:
    """Commit the files on top of the checkout, if they differ, and push to `branch` of origin.

    Never forces the push. With a `lease`, only its holder may push, and gives it back in the same
    step. Returns the commit.
    """
    git(project, "add", *files)
    if git(project, "diff", "--cached", "--name-only"):
        git(project, *COMMITTER, "commit", "-qm", message)
    if lease:
        push_with_lease(project, branch, lease)
    else:
        git(project, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    return git(project, "rev-parse", "HEAD")


def remote_commit(project: Path, branch: str) -> str:
    """The commit of a branch of origin; empty where there is no such branch."""
    return remote_ref(project, f"refs/heads/{branch}")
