"""The pipeline as a Prefect flow: each stage of dvc.yaml is a task, run by `dvc repro`.

`python -m flows.adapt` runs it here, without a server; infra/prefect.yaml deploys it to a work pool.
"""

import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from ruamel.yaml import YAML

from flows.run_stage import TEMPORARY_FAILURE, Outcome, StageFailed, run_stage


def stage_names(project: Path) -> list[str]:
    """The stages of dvc.yaml, in its order."""
    return list(YAML(typ="safe").load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def may_pass_later(task: Any, run: Any, state: Any) -> bool:
    """Whether a failed stage said so itself, by exit code 75; whatever else failed would fail again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and error.exit_code == TEMPORARY_FAILURE


@task(task_run_name="{stage}", retries=2, retry_delay_seconds=[10, 60], retry_condition_fn=may_pass_later)
def repro(stage: str, project: Path) -> Outcome:
    """One stage, unless it is up to date; stages before it run first where they are not."""
    return run_stage(stage, project, get_run_logger().info)[stage]


@flow(name="adapt", log_prints=True)
def adapt(project: Path | None = None) -> dict[str, str]:
    """All stages of the project (a folder with dvc.yaml; default: the working folder); what became of each."""
    folder = (project or Path.cwd()).resolve()
    return {stage: repro(stage, folder) for stage in stage_names(folder)}


if __name__ == "__main__":
    try:
        for name, outcome in adapt().items():
            print(f"{name:<10} {outcome}")
    except StageFailed as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
