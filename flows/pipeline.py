"""All stages on agents that share nothing but a git remote and a DVC remote.

params.yaml names each stage's work pool. The flow itself runs no stage: it starts the deployment
`stage/POOL` for one stage after the other, each at the commit with the previous one's dvc.lock, on
a branch with the run's name.
"""

import ctypes
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.states import Cancelling
from ruamel.yaml import YAML

from flows.git import CHECKOUT, git
from flows.hand_off import check_out, commit_all, remote_commit
from flows.results import Results, registered_version, results_of, verdict_of
from flows.run_stage import StageFailed

DEFAULT_POOL = "cpu"
POLL_SECONDS = 0.5  # between two looks at a stage's state
EXIT_CODE = re.compile(r"failed with exit code (-?\d+)")
LOST_WORKERS = 2  # that one stage may lose before the run fails
PR_SET_PDEATHSIG = 1


def enter_project() -> dict[str, str]:
    """A pull step for workers: enter LMADAPT_PROJECT, the checkout of the worker's environment."""
    folder = os.environ.get("LMADAPT_PROJECT", "")
    if not folder or not Path(folder, "dvc.yaml").is_file():
        raise RuntimeError(
            f"LMADAPT_PROJECT is {folder!r}; it must be the worker's own checkout of the project"
        )
    worker = os.getppid()
    if sys.platform == "linux" and worker > 1:  # nobody else would end this run
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != worker:
            raise RuntimeError("the worker of this run has ended")
    os.chdir(folder)
    return {"directory": folder}


@flow(name="pipeline", log_prints=True)
def pipeline(
    revision: str = "main",
    stages: list[str] | None = None,
    params: dict[str, Any] | None = None,
    stage_timeout_seconds: float | None = None,
    project: Path | None = None,
) -> str:
    """Run the stages (default: all) of a git revision of `origin`; the commit with their results.

    `params` changes keys of params.yaml for this run, as {"sft.learning_rate": 0.0001}. Raises
    StageFailed when a stage fails or is not done within `stage_timeout_seconds`, and ValueError for
    an unknown stage or key, or for results without a verdict.
    """
    folder = (project or Path.cwd()).resolve()
    branch = f"runs/{runtime.flow_run.name or 'local'}"
    with CHECKOUT:
        commit = begin(folder, revision, branch, params or {})
    settings, graph = settings_and_graph(folder, commit, stages)
    pools = settings.get("pools") or {}
    chosen = [name for name in graph if stages is None or name in stages]
    try:
        for stage in chosen:
            commit = run_on_pool(
                stage,
                pools.get(stage, DEFAULT_POOL),
                commit,
                branch=branch,
                project=folder,
                timeout_seconds=stage_timeout_seconds,
            )
    except StageFailed as failure:
        notify("failed", branch, {"stage": failure.stage, "exit_code": failure.exit_code})
        raise
    report(branch, commit, results_of(folder, commit, chosen))
    return commit


def settings_and_graph(
    project: Path, commit: str, stages: list[str] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """params.yaml, and the stages of dvc.yaml, at a commit.

    Raises ValueError when `stages` or a pool names a stage that dvc.yaml does not have.
    """
    texts = (git(project, "show", f"{commit}:{name}") for name in ("params.yaml", "dvc.yaml"))
    settings, known = (YAML(typ="safe").load(text) for text in texts)
    graph = known["stages"]
    named = [*(stages or []), *(settings.get("pools") or {})]
    unknown = [name for name in named if name not in graph]
    if unknown:
        raise ValueError(
            f"stages: {', '.join(unknown)} not in dvc.yaml of {commit}, which has"
            f" {', '.join(graph)}"
        )
    return settings, graph


def begin(project: Path, revision: str, branch: str, params: dict[str, Any]) -> str:
    """The commit at which the run starts: the revision's, or one on top with the changed params."""
    git(project, "fetch", "--quiet", "origin")
    is_commit = re.fullmatch("[0-9a-f]{40}", revision)
    commit = git(project, "rev-parse", revision if is_commit else f"refs/remotes/origin/{revision}")
    if not params:
        return commit
    check_out(commit, project)
    yaml, file = YAML(), project / "params.yaml"
    content = yaml.load(file.read_text(encoding="utf-8"))
    for key, value in params.items():
        section, _, name = key.partition(".")
        if name not in content.get(section, {}):
            raise ValueError(f"params: {key} is not in params.yaml of {commit}")
        content[section][name] = value
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(content, stream)
    return commit_all(project, ["params.yaml"], f"Set {', '.join(params)}", branch)


def run_on_pool(
    stage: str,
    pool: str,
    commit: str,
    *,
    branch: str,
    project: Path,
    timeout_seconds: float | None,
) -> str:
    """Run one stage on a worker of POOL or POOL/QUEUE; the commit that it leaves on the branch.

    Where nothing changes, this is the given commit. A crashed run, which infra/automations.yaml
    makes of a lost worker's, starts again on any free worker. A run that is not done within
    `timeout_seconds`, including the wait for a worker, is cancelled. Raises StageFailed.
    """
    pool_name, _, work_queue = pool.partition("/")
    run_name = f"{branch.removeprefix('runs/')} {stage}"
    for lost in range(LOST_WORKERS + 1):
        run = run_deployment(
            f"stage/{pool_name}",
            parameters={"stage": stage, "commit": commit, "branch": branch},
            timeout=timeout_seconds,
            poll_interval=POLL_SECONDS,
            work_queue_name=work_queue or None,
            flow_run_name=f"{run_name} again {lost}" if lost else run_name,
        )
        if run.state is None or not run.state.is_crashed():
            break
        print(f"{stage}: its worker is lost ({run.state.message}); another one continues")
    if run.state and run.state.is_completed():
        return remote_commit(project, branch) or commit
    raise failure_on_pool(stage, pool, run, timeout_seconds)


def failure_on_pool(stage: str, pool: str, run: Any, timeout_seconds: float | None) -> StageFailed:
    """Why the run of a stage did not complete; a run that is not over is cancelled."""
    state = run.state
    said = (state and state.message) or "it said nothing"
    if state is None or not state.is_final():
        said = f"not completed within {timeout_seconds} s"
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.id, Cancelling(message=said))
    told = EXIT_CODE.search(said)  # written by the stage itself
    name = state.name if state else "unknown"
    return StageFailed(stage, int(told[1]) if told else 1, [f"{name} on pool {pool}: {said}"])


def report(branch: str, commit: str, results: Results) -> None:
    """Write the results as a Prefect artifact, and emit the event `shipped` or `held`.

    Raises ValueError when an evaluation left no verdict.
    """
    verdict, version = verdict_of(results), registered_version(results)
    lines = [
        f"# {verdict.title if verdict else 'not judged'}",
        verdict.reason if verdict else "",
        "",
        *(f"- Reservation: {line}" for line in (verdict.reservations if verdict else [])),
        "",
        f"`{branch}` at `{commit[:12]}`",
        "",
        "| | |",
        "|---|---|",
    ]
    if version:
        lines.append(f"| version | {version} |")
    for name, measured in results.items():
        flat = {
            key: value for key, value in measured.items() if isinstance(value, int | float | str)
        }
        lines += [f"| {name}.{key} | {value} |" for key, value in flat.items()]
    create_markdown_artifact("\n".join(lines), key="lmadapt-run", description=branch)
    if verdict:
        payload = {"commit": commit} | verdict.model_dump()
        notify("shipped" if verdict.outcome == "SHIP" else "held", branch, payload)


def notify(what: str, branch: str, payload: dict[str, Any]) -> None:
    """Emit the event `lmadapt.WHAT`; a Prefect automation can send it on."""
    resource = {"prefect.resource.id": f"lmadapt.{branch.replace('/', '.')}"}
    emit_event(f"lmadapt.{what}", resource=resource, payload=payload)
