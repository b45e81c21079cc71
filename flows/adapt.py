"""The pipeline as a Prefect flow: each stage of dvc.yaml is a task, which `dvc repro` runs.

`python -m flows.adapt` runs it on this machine, without a server; infra/prefect.yaml deploys it to
a work pool.
"""

import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from ruamel.yaml import YAML

from flows.hand_off import hand_over
from flows.run_stage import TEMPORARY_FAILURE, StageFailed, StageOutcome, run_stage


def stage_names(project: Path) -> list[str]:
    """The stages of dvc.yaml, in its order."""
    return list(YAML(typ="safe").load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def is_temporary(task: Any, run: Any, state: Any) -> bool:
    """Whether the stage itself called its failure temporary, with exit code 75."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and error.exit_code == TEMPORARY_FAILURE


@task(
    task_run_name="{stage}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=is_temporary,
)
def repro(stage: str, project: Path) -> StageOutcome:
    """Run one stage unless it is up to date; earlier stages that are not up to date run first."""
    return run_stage(stage, project, get_run_logger().info)[stage]


@flow(name="adapt", log_prints=True)
def adapt(
    project: Path | None = None,
    stages: list[str] | None = None,
    stage_timeout_seconds: float | None = None,
) -> dict[str, str]:
    """Run the stages (default: all) of the project (default: the working folder); their outcomes.

    A stage that is not done within `stage_timeout_seconds` is stopped and fails; it is not retried.
    Raises ValueError for a stage that dvc.yaml does not have.
    """
    folder = (project or Path.cwd()).resolve()
    known = stage_names(folder)
    unknown = [name for name in stages or [] if name not in known]
    if unknown:
        raise ValueError(
            f"stages: {', '.join(unknown)} not in {folder / 'dvc.yaml'}, which has"
            f" {', '.join(known)}"
        )
    run = repro.with_options(timeout_seconds=stage_timeout_seconds)
    return {name: run(name, folder) for name in known if stages is None or name in stages}


@task(
    task_run_name="{stage}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=is_temporary,
)
def repro_handed_over(
    stage: str, commit: str, branch: str, project: Path
) -> tuple[StageOutcome, str]:
    """Run one stage at one commit, from and to the shared remotes; see flows/hand_off.py."""
    return hand_over(stage, commit, branch, project, get_run_logger().info)


@flow(name="stage", log_prints=True)
def run_one_stage(stage: str, commit: str, branch: str, project: Path | None = None) -> str:
    """Run one stage in this agent's checkout; the commit on `branch` for the next stage."""
    folder = (project or Path.cwd()).resolve()
    done: tuple[StageOutcome, str] = repro_handed_over(stage, commit, branch, folder)
    return done[1]


if __name__ == "__main__":
    try:
        for name, outcome in adapt().items():
            print(f"{name:<10} {outcome}")
    except StageFailed as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
