"""All stages on agents that share nothing but a git remote and a DVC remote: each on the pool that params.yaml names.

The flow itself runs no stage. It starts the deployment `stage/POOL` for one stage after the other, each at the commit
in which the one before left its dvc.lock, on a branch of the run's name.
"""

import ctypes
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.states import Cancelling
from ruamel.yaml import YAML

from flows.git import git
from flows.hand_off import check_out, commit_all, remote_commit
from flows.run_stage import StageFailed

DEFAULT_POOL = "cpu"
POLL_SECONDS = 0.5  # between two looks at a stage's state
EXIT_CODE = re.compile(r"failed with exit code (-?\d+)")
LOST_WORKERS = 2  # of one stage, before the run fails
PR_SET_PDEATHSIG = 1
CHECKOUT = (
    threading.Lock()
)  # held while git writes to the one checkout: flows/sweep.py has several runs in it
Results = dict[str, dict[str, Any]]


def enter_project() -> dict[str, str]:
    """A pull step for workers: the flow runs in the checkout LMADAPT_PROJECT of the worker's own environment."""
    folder = os.environ.get("LMADAPT_PROJECT", "")
    if not folder or not Path(folder, "dvc.yaml").is_file():
        raise RuntimeError(
            f"LMADAPT_PROJECT is {folder!r}; it must be the worker's own checkout of the project"
        )
    if (
        sys.platform == "linux" and (worker := os.getppid()) > 1
    ):  # without its worker nobody would end this run
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != worker:
            raise RuntimeError("the worker is gone")
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

    `params` changes keys for this run, as {"sft.learning_rate": 0.0001}. Raises StageFailed when a stage did not
    complete, in time where `stage_timeout_seconds` is given.
    """
    folder = (project or Path.cwd()).resolve()
    branch = f"runs/{runtime.flow_run.name or 'local'}"
    with CHECKOUT:
        commit = begin(folder, revision, branch, params or {})
    settings, graph = settings_and_graph(folder, commit, stages)
    pools, chosen = (
        settings.get("pools") or {},
        [name for name in graph if stages is None or name in stages],
    )
    try:
        for stage in chosen:
            commit = run_on_pool(
                stage, pools.get(stage, DEFAULT_POOL), commit, branch, folder, stage_timeout_seconds
            )
    except StageFailed as failure:
        tell("failed", branch, {"stage": failure.stage, "exit_code": failure.exit_code})
        raise
    report(branch, commit, results_of(folder, commit, chosen))
    return commit


def settings_and_graph(
    project: Path, commit: str, stages: list[str] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """params.yaml and the stages of dvc.yaml at a commit; ValueError where `stages` or a pool names none of them."""
    texts = (git(project, "show", f"{commit}:{name}") for name in ("params.yaml", "dvc.yaml"))
    settings, known = (YAML(typ="safe").load(text) for text in texts)
    graph = known["stages"]
    if unknown := [
        name for name in [*(stages or []), *(settings.get("pools") or {})] if name not in graph
    ]:
        raise ValueError(
            f"stages: {', '.join(unknown)} not in dvc.yaml of {commit}, which has {', '.join(graph)}"
        )
    return settings, graph


def begin(project: Path, revision: str, branch: str, params: dict[str, Any]) -> str:
    """The commit from which the run starts: that of the revision, or one with the changed params on top."""
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
    stage: str, pool: str, commit: str, branch: str, project: Path, timeout_seconds: float | None
) -> str:
    """One stage on a worker of POOL or POOL/QUEUE; the commit it left on the branch, the given one if nothing changed.

    A crashed run, as infra/automations.yaml calls that of a lost worker, is started again, on whichever worker is free.
    One that is not done in time, the wait for a worker included, is cancelled.
    """
    pool_name, _, work_queue = pool.partition("/")
    for lost in range(LOST_WORKERS + 1):
        run = run_deployment(
            f"stage/{pool_name}",
            parameters={"stage": stage, "commit": commit, "branch": branch},
            timeout=timeout_seconds,
            poll_interval=POLL_SECONDS,
            work_queue_name=work_queue or None,
            flow_run_name=f"{branch.removeprefix('runs/')} {stage}"
            + (f" again {lost}" if lost else ""),
        )
        if run.state is None or not run.state.is_crashed():
            break
        print(f"{stage}: its worker is lost ({run.state.message}); another one goes on")
    state = run.state
    if state and state.is_completed():
        return remote_commit(project, branch) or commit
    said = (state and state.message) or "it said nothing"
    if state is None or not state.is_final():
        said = f"not completed within {timeout_seconds} s"
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.id, Cancelling(message=said))
    told = EXIT_CODE.search(said)  # by the stage itself
    raise StageFailed(
        stage,
        int(told[1]) if told else 1,
        [f"{state.name if state else 'unknown'} on pool {pool}: {said}"],
    )


def results_of(project: Path, commit: str, stages: list[str]) -> Results:
    """What these stages measured, as the run's commit holds it; what it has of others is of an earlier run."""
    with CHECKOUT:
        git(project, "fetch", "--quiet", "origin")
    files = git(project, "ls-tree", "--name-only", commit, "results/").splitlines()
    names = [name for name in files if Path(name).stem in stages]
    return {Path(name).stem: json.loads(git(project, "show", f"{commit}:{name}")) for name in names}


def report(branch: str, commit: str, results: Results) -> None:
    """The run's results as a Prefect artifact, and an event for whoever is to be told: shipped or held."""
    verdict = results.get("evaluate", {}).get("verdict", {})
    outcome, version = verdict.get("outcome", "not judged"), results.get("register", {})
    lines = [
        f"# {outcome}",
        verdict.get("reason", ""),
        "",
        f"`{branch}` at `{commit[:12]}`",
        "",
        "| | |",
        "|---|---|",
    ]
    if version:
        lines.append(
            f"| version | {version['model_name']} {version['version']} ({', '.join(version['aliases'])}) |"
        )
    for name, measured in results.items():
        flat = {
            key: value for key, value in measured.items() if isinstance(value, int | float | str)
        }
        lines += [f"| {name}.{key} | {value} |" for key, value in flat.items()]
    create_markdown_artifact("\n".join(lines), key="lmadapt-run", description=branch)
    if verdict:
        payload = {"commit": commit, "outcome": outcome, "reason": verdict.get("reason", "")}
        tell("shipped" if outcome == "SHIP" else "held", branch, payload)


def tell(what: str, branch: str, payload: dict[str, Any]) -> None:
    """Emit the event `lmadapt.WHAT`, on which a Prefect automation can notify."""
    resource = {"prefect.resource.id": f"lmadapt.{branch.replace('/', '.')}"}
    emit_event(f"lmadapt.{what}", resource=resource, payload=payload)
