"""The pipeline for several params sets side by side; stages that sets share run once.

Each part of the plan (flows/sweep_plan.py) is a run of `pipeline` on a branch of its own:
`runs/NAME-K` for the last part of set K, and `runs/NAME-STAGE-K` for what set K shares with later
ones up to STAGE.
"""

import threading
from collections import ChainMap
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact

from flows.git import CHECKOUT
from flows.pipeline import begin, pipeline, settings_and_graph
from flows.results import Results, accuracy, registered_version, results_of, verdict_of
from flows.sweep_plan import Params, Part, plan, with_shared_level

Ends = dict[int, "str | Exception"]  # by set: its commit, or why it has none


@dataclass(frozen=True)
class Sweep:
    """What all parts of a sweep have in common."""

    name: str
    project: Path
    stage_timeout_seconds: float | None


@flow(name="sweep", log_prints=True)
def sweep(
    sets: list[dict[str, Any]],
    revision: str = "main",
    stages: list[str] | None = None,
    stage_timeout_seconds: float | None = None,
    project: Path | None = None,
) -> dict[int, str]:
    """Run the stages (default: all) of a git revision of `origin` for each params set.

    Where `evaluate` runs, the sets divide its level: each is judged at evaluate.significance /
    number of sets (`evaluate.candidates`), so that many tries do not make luck likely.

    Returns each set's commit, by its number from 1. Raises ValueError, before anything runs, for
    unknown keys and stages and for two equal sets; raises RuntimeError, when all sets are done, if
    one of them failed.
    """
    folder, name = (project or Path.cwd()).resolve(), runtime.flow_run.name or "local"
    with CHECKOUT:
        commit = begin(folder, revision, "", {})
    settings, graph = settings_and_graph(folder, commit, stages)
    chosen = [stage for stage in graph if stages is None or stage in stages]
    root = plan(with_shared_level(sets, settings, chosen), settings, graph, chosen)
    ends: Ends = dict.fromkeys(root.sets, RuntimeError("its run was interrupted"))
    ends |= side_by_side([root], commit, Sweep(name, folder, stage_timeout_seconds))
    commits = {number: end for number, end in ends.items() if isinstance(end, str)}
    results = {number: results_of(folder, end, chosen) for number, end in commits.items()}
    create_markdown_artifact(
        table(name, sets, ends, results), key="lmadapt-sweep", description=name
    )
    failed = [f"{number} ({end})" for number, end in ends.items() if number not in commits]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(sets)} sets failed: {', '.join(failed)}")
    return commits


def side_by_side(parts: list[Part], commit: str, of: Sweep) -> Ends:
    """Run parts at the same time, each from the commit; the ends of their sets."""
    ends: list[Ends] = []

    def run(part: Part) -> None:
        ends.append(run_part(part, commit, of))

    # Daemon threads: those of Prefect's task runner would keep a process that is told to stop
    # until all sets are done.
    threads = [
        threading.Thread(target=copy_context().run, args=(run, part), daemon=True) for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(ChainMap(*ends))


def run_part(part: Part, commit: str, of: Sweep) -> Ends:
    """Run the stages of a part, then its forks; a failure is that of all its sets and no others."""
    first = part.sets[0]
    try:
        if part.stages or not part.forks:
            run_name = (
                f"{of.name}-{part.stages[-1]}-{first}" if part.forks else f"{of.name}-{first}"
            )
            run = pipeline.with_options(flow_run_name=run_name)
            commit = run(commit, part.stages, part.params, of.stage_timeout_seconds, of.project)
    except Exception as failure:  # of any kind: the other parts continue
        return dict.fromkeys(part.sets, failure)
    if part.forks:
        return side_by_side(part.forks, commit, of)
    return {first: commit}


def table(name: str, sets: list[Params], ends: Ends, results: dict[int, Results]) -> str:
    """Markdown with a row for each set: what it changed and what came of it."""
    lines = [
        f"# Sweep {name}",
        "",
        "| set | changed | outcome | domain accuracy | general accuracy | version | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, changed in enumerate(sets, 1):
        end = ends[number]
        values = ", ".join(f"{key}: {value}" for key, value in changed.items())
        cells = [str(number), values or "nothing"]
        if isinstance(end, Exception):
            cells += [f"failed: {end}", "", "", "", ""]
        else:
            cells += [*result_cells(results[number]), f"`{end[:12]}`"]
        lines.append(f"| {' | '.join(map(in_a_cell, cells))} |")
    return "\n".join(lines)


def in_a_cell(text: str) -> str:
    """The text as one line that Markdown takes for one cell of a table."""
    return " ".join(text.split()).replace("|", "&#124;")


def result_cells(results: Results) -> list[str]:
    """Outcome, domain and general accuracy, and version; empty where nothing was measured."""
    verdict = verdict_of(results)
    adapted = results.get("evaluate", {}).get("models", {}).get("adapted", {})
    accuracies = [accuracy(adapted.get(group, {})) for group in ("domain", "general")]
    outcome = verdict.title if verdict else "not judged"
    return [outcome, *accuracies, registered_version(results)]
