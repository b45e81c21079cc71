"""The pipeline for several params sets side by side, their results in one table; what sets share runs once.

Each part of flows/sweep_plan.py is a run of `pipeline` on a branch of its own: `runs/NAME-K` for the rest of set K,
`runs/NAME-STAGE-K` for what K and later sets have in common up to STAGE.
"""

import threading
from contextvars import copy_context
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact

from flows.pipeline import CHECKOUT, Results, begin, pipeline, results_of, settings_and_graph
from flows.sweep_plan import Params, Part, plan

Ends = dict[int, "str | Exception"]  # by set: its commit, or why it has none


@flow(name="sweep", log_prints=True)
def sweep(
    sets: list[dict[str, Any]],
    revision: str = "main",
    stages: list[str] | None = None,
    stage_timeout_seconds: float | None = None,
    project: Path | None = None,
) -> dict[int, str]:
    """Run the stages (default: all) of a git revision of `origin` for each params set; the sets' commits, from 1.

    Raises ValueError before anything runs for keys, stages or sets that cannot be, and RuntimeError at the end, when
    all sets have ended, if one of them failed.
    """
    folder, name = (project or Path.cwd()).resolve(), runtime.flow_run.name or "local"
    with CHECKOUT:
        commit = begin(folder, revision, "", {})
    settings, graph = settings_and_graph(folder, commit, stages)
    chosen = [stage for stage in graph if stages is None or stage in stages]
    root = plan(sets, settings, graph, chosen)
    ends: Ends = dict.fromkeys(root.sets, RuntimeError("it was not run to its end"))
    side_by_side([root], commit, ends, name, folder, stage_timeout_seconds)
    commits = {number: end for number, end in ends.items() if isinstance(end, str)}
    results = {number: results_of(folder, end, chosen) for number, end in commits.items()}
    create_markdown_artifact(
        table(name, sets, ends, results), key="lmadapt-sweep", description=name
    )
    if failed := [f"{number} ({end})" for number, end in ends.items() if number not in commits]:
        raise RuntimeError(f"{len(failed)} of {len(sets)} sets failed: {', '.join(failed)}")
    return commits


def side_by_side(
    parts: list[Part],
    commit: str,
    ends: Ends,
    name: str,
    project: Path,
    timeout_seconds: float | None,
) -> None:
    """Run parts at once, each from the commit; what became of their sets goes to `ends`."""
    # Not Prefect's task runner: its threads would keep a process that was told to end until all sets are through.
    arguments = (commit, ends, name, project, timeout_seconds)
    threads = [
        threading.Thread(target=copy_context().run, args=(run_part, part, *arguments), daemon=True)
        for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_part(
    part: Part, commit: str, ends: Ends, name: str, project: Path, timeout_seconds: float | None
) -> None:
    """Run the stages of a part, then its forks from there; a failure is that of all its sets and of no other."""
    first = part.sets[0]
    try:
        if part.stages or not part.forks:
            run_name = f"{name}-{part.stages[-1]}-{first}" if part.forks else f"{name}-{first}"
            run = pipeline.with_options(flow_run_name=run_name)
            commit = run(commit, part.stages, part.params, timeout_seconds, project)
    except Exception as failure:  # whatever it is: the others go on
        ends.update(dict.fromkeys(part.sets, failure))
        return
    if part.forks:
        side_by_side(part.forks, commit, ends, name, project, timeout_seconds)
    else:
        ends[first] = commit


def table(name: str, sets: list[Params], ends: Ends, results: dict[int, Results]) -> str:
    """Markdown with a row a set: what it changed, what came of it."""
    lines = [
        f"# Sweep {name}",
        "",
        "| set | changed | outcome | domain accuracy | general accuracy | version | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, changed in enumerate(sets, 1):
        end, found = ends[number], results.get(number, {})
        cells = [
            str(number),
            ", ".join(f"{key}: {value}" for key, value in changed.items()) or "nothing",
        ]
        cells += (
            [f"failed: {end}", "", "", "", ""]
            if isinstance(end, Exception)
            else [*outcome(found), f"`{end[:12]}`"]
        )
        lines.append(
            f"| {' | '.join(' '.join(cell.split()).replace('|', '&#124;') for cell in cells)} |"
        )
    return "\n".join(lines)


def outcome(found: Results) -> list[str]:
    """Verdict, domain and general accuracy with their intervals, and version, as far as stages measured them."""
    evaluation, version = found.get("evaluate", {}), found.get("register", {})
    adapted = evaluation.get("models", {}).get("adapted", {})
    figures = [accuracy(adapted.get(group, {})) for group in ("domain", "general")]
    shipped = (
        f"{version['model_name']} {version['version']} ({', '.join(version['aliases'])})"
        if version
        else ""
    )
    return [evaluation.get("verdict", {}).get("outcome", "not judged"), *figures, shipped]


def accuracy(figure: dict[str, Any]) -> str:
    """An accuracy of metrics/evaluate.json in percent, with its interval; empty where it was not measured."""
    if figure.get("accuracy") is None:
        return ""
    value, low, high = (f"{100 * share:.1f}" for share in (figure["accuracy"], *figure["interval"]))
    return f"{value} % [{low}, {high}]"
