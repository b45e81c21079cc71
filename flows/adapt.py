"""The pipeline as a Prefect flow: each stage of dvc.yaml is a task, run by `dvc repro`.

`python -m flows.adapt` runs it here, without a server; infra/prefect.yaml deploys it to a work pool.
"""

import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from ruamel.yaml import YAML

from flows.hand_off import hand_over
from flows.run_stage import TEMPORARY_FAILURE, Outcome, StageFailed, run_stage


def stage_names(project: Path) -> list[str]:
    """The stages of dvc.yaml, in its order."""
    return list(YAML(typ="safe").load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def may_pass_later(task: Any, run: Any, state: Any) -> bool:
    """Whether a failed stage said so itself, by exit code 75; whatever else failed would fail again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and error.exit_code == TEMPORARY_FAILURE


@task(
    task_run_name="{stage}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=may_pass_later,
)
def repro(stage: str, project: Path) -> Outcome:
    """One stage, unless it is up to date; stages before it run first where they are not."""
    return run_stage(stage, project, get_run_logger().info)[stage]


@flow(name="adapt", log_prints=True)
def adapt(
    project: Path | None = None,
    stages: list[str] | None = None,
    stage_timeout_seconds: float | None = None,
) -> dict[str, str]:
    """What became of the stages of the project (default: the working folder); ValueError for a name it has not.

    A stage that is not done in `stage_timeout_seconds` is ended and fails, and is not tried again.
    """
    folder = (project or Path.cwd()).resolve()
    known = stage_names(folder)
    if unknown := [name for name in stages or [] if name not in known]:
        raise ValueError(
            f"stages: {', '.join(unknown)} not in {folder / 'dvc.yaml'}, which has {', '.join(known)}"
        )
    run = repro.with_options(timeout_seconds=stage_timeout_seconds)
    return {name: run(name, folder) for name in known if stages is None or name in stages}


@task(
    task_run_name="{stage}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=may_pass_later,
)
def repro_handed_over(stage: str, commit: str, branch: str, project: Path) -> tuple[Outcome, str]:
    """One stage at one commit, from and to the shared remotes; see flows/hand_off.py."""
    return hand_over(stage, commit, branch, project, get_run_logger().info)


@flow(name="stage", log_prints=True)
def run_one_stage(stage: str, commit: str, branch: str, project: Path | None = None) -> str:
    """One stage on this agent, in its own checkout; the commit on `branch` that the next stage is to start from."""
    done: tuple[Outcome, str] = repro_handed_over(
        stage, commit, branch, (project or Path.cwd()).resolve()
    )
    return done[1]


if __name__ == "__main__":
    try:
        for name, outcome in adapt().items():
            print(f"{name:<10} {outcome}")
    except StageFailed as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
