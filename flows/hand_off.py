"""One stage on one of several agents, which share a git remote and a DVC remote and have a checkout of their own each.

An agent can neither run a stage before its own nor train on the output of an older one: `dvc repro` compares the
whole graph (no `--single-item`), and what it would have to run first is refused by flows/one_stage.sh.
"""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.git import git
from flows.lease import LEASE_LOST, check_lease, lease_of, push_with_lease
from flows.run_stage import TEMPORARY_FAILURE, Log, Outcome, StageFailed, dvc, run_stage
from flows.shared_store import drop_checkpoints, pull_checkpoints, push_checkpoints, set_up_cache

NOT_HANDED_OVER = 78  # what flows/one_stage.sh exits with
PULSE_SECONDS = 10.0  # between two looks at the lease and at new checkpoints, while a stage runs


def hand_over(stage: str, commit: str, branch: str, project: Path, log: Log) -> tuple[Outcome, str]:
    """Run one stage at `commit`; push its outputs, then dvc.lock as a commit to `branch`; the outcome and that commit.

    Without a change of dvc.lock the commit is the one that was given. Raises StageFailed: 78 when an earlier stage
    was not handed over; 75 when a second try may pass, as with a DVC remote that does not answer; 77 when another
    agent has taken the run over; what git says when a push fails, as when another run wrote to `branch`.
    """
    check_out(commit, project)
    with lease_of(project, branch) as lease:
        with asking_the_store(stage):
            set_up_cache(project)
            for name in pull_checkpoints(project, branch, stage):
                log(f"checkpoint {name} of another agent is here")
        with pulse(stage, branch, lease, project, log) as taken_over:
            outcome = run_alone(stage, project, log, taken_over)
        check_lease(project, branch, lease)
        exit_code, lines = dvc(["push", "--run-cache", stage], project, log, {})
        if exit_code:
            raise StageFailed(
                stage, TEMPORARY_FAILURE, ["dvc push failed: " + "; ".join(lines[-3:])]
            )
        with asking_the_store(stage):
            drop_checkpoints(project, branch, stage)
        return outcome, publish(stage, branch, project, lease)


def run_alone(stage: str, project: Path, log: Log, taken_over: threading.Event) -> Outcome:
    """Run the stage and none before it; StageFailed says why an earlier one is missing."""
    try:
        return run_stage(stage, project, log, alone=True, ending=taken_over)[stage]
    except StageFailed as failure:
        if taken_over.is_set():
            raise StageFailed(
                stage, LEASE_LOST, ["ended: another agent has taken this run over"]
            ) from failure
        if failure.stage == stage:
            raise
        if (
            failure.exit_code != NOT_HANDED_OVER
        ):  # nothing else is done with an earlier stage than to fetch its output
            raise StageFailed(stage, TEMPORARY_FAILURE, failure.last_lines) from failure
        # Only of a stage that ran on what is here now does DVC ask for the output, which may be on its way.
        asked = any(
            f"Unable to pull data for stage: '{failure.stage}'" in line
            for line in failure.last_lines
        )
        why = (
            f"{failure.stage} comes before it and has no output for this commit in the DVC remote; run it on its agent"
            " first, or `dvc push --run-cache` where it ran"
        )
        raise StageFailed(
            stage, TEMPORARY_FAILURE if asked else NOT_HANDED_OVER, [why]
        ) from failure


@contextmanager
def asking_the_store(stage: str) -> Iterator[None]:
    """A remote that does not answer may answer later: StageFailed with 75."""
    try:
        yield
    except Exception as error:  # each kind of remote has its own
        raise StageFailed(
            stage, TEMPORARY_FAILURE, [f"the DVC remote does not answer: {error}"]
        ) from error


@contextmanager
def pulse(
    stage: str, branch: str, lease: str, project: Path, log: Log
) -> Iterator[threading.Event]:
    """While the block runs, and once more when it fails: send its checkpoints; set the event when the lease is lost."""
    taken_over, done, sent = threading.Event(), threading.Event(), set[str]()

    def beat() -> None:
        try:
            check_lease(project, branch, lease)
            push_checkpoints(project, branch, stage, sent)
        except StageFailed as failure:
            if failure.exit_code == LEASE_LOST:
                return taken_over.set()
            log(f"the lease was not looked at: {failure}")
        except (
            Exception
        ) as error:  # a remote away, a checkpoint replaced meanwhile: the next beat tries again
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
        beat()  # what a stage wrote when it was told to end
        raise


def check_out(commit: str, project: Path) -> None:
    """Check out the exact commit; an uncommitted dvc.lock is lost, other edits raise StageFailed."""
    changed = git(project, "status", "--porcelain", "--untracked-files=no").splitlines()
    if edited := [line[3:] for line in changed if line[3:] != "dvc.lock"]:
        raise StageFailed(
            "checkout",
            NOT_HANDED_OVER,
            [f"edited in {project}: {', '.join(edited)}; commit or undo it"],
        )
    git(project, "fetch", "--quiet", "origin")
    git(project, "checkout", "--quiet", "--force", "--detach", commit)
    if not git(project, "ls-files", "dvc.lock"):
        (project / "dvc.lock").unlink(missing_ok=True)  # of another commit


def publish(stage: str, branch: str, project: Path, lease: str = "") -> str:
    """Push dvc.lock and what the stage measured as a commit to `branch` of origin, never forced; the commit."""
    measured, result = project / f"metrics/{stage}.json", project / f"results/{stage}.json"
    if (
        measured.is_file()
    ):  # metrics/ is DVC's, which git must not track; results/ is for who reads the branch
        result.parent.mkdir(exist_ok=True)
        shutil.copyfile(measured, result)
    files = ["dvc.lock", *([f"results/{stage}.json"] if result.is_file() else [])]
    return commit_all(project, files, f"Run {stage}", branch, lease)


def commit_all(project: Path, files: list[str], message: str, branch: str, lease: str = "") -> str:
    """Push the files as a commit on top of the checked out one, if they differ, to `branch` of origin; the commit.

    With a `lease` only who holds it may, and gives it back so.
    """
    git(project, "add", *files)
    if git(project, "diff", "--cached", "--name-only"):
        git(
            project,
            "-c",
            "user.name=lmadapt",
            "-c",
            "user.email=lmadapt@localhost",
            "commit",
            "-qm",
            message,
        )
    if lease:
        push_with_lease(project, branch, lease)
    else:
        git(project, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    return git(project, "rev-parse", "HEAD")


def remote_commit(project: Path, branch: str) -> str:
    """The commit of the branch of origin; empty where there is no such branch."""
    return git(project, "ls-remote", "origin", f"refs/heads/{branch}").partition("\t")[0]
