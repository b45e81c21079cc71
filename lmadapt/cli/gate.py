"""The command `gate`: the verdict of this project, or one on other programs' results, for CI."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from lmadapt.cli.console import say
from lmadapt.core.dvc_graph import stage_paths
from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_file, write_json

GATE_EXIT_CODES = {"SHIP": 0, "HOLD": 2, "INCONCLUSIVE": 3}
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"  # a file, to which GitHub's steps append Markdown

commands = typer.Typer()


@commands.command(rich_help_panel="After a run")
def gate(
    context: typer.Context,
    before: Annotated[
        Path | None, typer.Argument(help="Per-item results of the model in use: file or folder.")
    ] = None,
    after: Annotated[
        Path | None, typer.Argument(help="Results of the model that is to replace it.")
    ] = None,
    domain: Annotated[
        str, typer.Option(help="Tasks or categories that must get better: NAME,NAME (or mmlu_*).")
    ] = "",
    format: Annotated[
        str, typer.Option(help="lm-eval, inspect, promptfoo or table; found by content if absent.")
    ] = "",
    metric: Annotated[
        str, typer.Option(help="Metric, scorer or column; of several, the first a task has.")
    ] = "",
    filter: Annotated[str, typer.Option(help="Filter of lm-evaluation-harness.")] = "",
    before_provider: Annotated[
        str, typer.Option(help="promptfoo: provider or prompt (PROVIDER / PROMPT) of BEFORE.")
    ] = "",
    after_provider: Annotated[str, typer.Option(help="The same of AFTER.")] = "",
    category: Annotated[str, typer.Option(help="Field that holds an item's category.")] = "",
    cluster: Annotated[
        str, typer.Option(help="Field that holds what an item is about, such as its document.")
    ] = "",
    margin: Annotated[
        float | None, typer.Option(help="Largest acceptable loss as a whole.  [default: 0.02]")
    ] = None,
    category_margin: Annotated[
        float | None, typer.Option(help="Largest acceptable loss in a category.  [default: 0.05]")
    ] = None,
    significance: Annotated[
        float | None, typer.Option(help="One-sided level of each test.  [default: 0.05]")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(help=f"Write a summary to this file; without it, to ${STEP_SUMMARY} if set."),
    ] = None,
) -> None:
    """Print a verdict, and exit with a code for CI.

    Without arguments it is the verdict of the last evaluation in this project. With BEFORE and
    AFTER it is one on per-item results of lm-evaluation-harness, Inspect, promptfoo or a table,
    with the same statistics; neither a project nor a model is needed. Without `--domain` no gain is
    asked for: SHIP means that nothing was lost beyond the margins.

    Exit code: 0 SHIP, 2 HOLD, 3 INCONCLUSIVE, 1 when there is no verdict.

    Example: `lmadapt gate results/base results/adapted --domain medqa_4options,pubmedqa`
    """
    given = {key: value for key, value in context.params.items() if value not in (None, "")}
    options = {key: value for key, value in given.items() if key not in ("before", "after")}
    if before is None:
        _judge_project(options)
    elif after is not None:
        _judge_files(before, after, options)
    else:
        raise UserError("gate: AFTER is missing; lmadapt gate BEFORE AFTER, or no argument at all")


def _judge_project(options: dict[str, Any]) -> None:
    from lmadapt.verdict.figures import read_evaluation

    if options:
        raise UserError(
            f"gate: --{next(iter(options)).replace('_', '-')} needs BEFORE and AFTER; the verdict "
            "of a project follows params.yaml"
        )
    verdict = read_evaluation(stage_paths("evaluate")["metrics"]).verdict
    say(f"{verdict.title}: {escape(verdict.reason)}")
    for line in verdict.reservations:
        say(f"Reservation: {escape(line)}")
    raise typer.Exit(GATE_EXIT_CODES[verdict.outcome])


def _judge_files(before: Path, after: Path, options: dict[str, Any]) -> None:
    try:
        from lmadapt.evaluation.gate import GateSettings, gate_figures
    except ModuleNotFoundError as error:
        raise UserError(f"gate needs {error.name}: pip install 'lmadapt[gate]'") from None
    from lmadapt.report.gate_summary import gate_in_markdown, render_gate
    from lmadapt.sources.item_results import read_results
    from lmadapt.sources.item_scores import Choice

    levels = {
        key: _share(key, options[key])
        for key in ("margin", "category_margin", "significance")
        if key in options
    }
    domain = tuple(name.strip() for name in options.get("domain", "").split(",") if name.strip())
    chosen = {key: options.get(key, "") for key in ("metric", "filter", "category", "cluster")}
    earlier, later = (
        read_results(
            path,
            options.get("format", ""),
            Choice(**chosen, provider=options.get(f"{side}_provider", "")),
        )
        for side, path in (("before", before), ("after", after))
    )
    settings = GateSettings(**levels, domain=domain)
    figures = gate_figures(earlier, later, settings, (str(before), str(after)))
    if "json" in options:
        write_json(options["json"], figures.model_dump())
    _write_markdown(gate_in_markdown(figures), options.get("markdown"))
    for part in render_gate(figures):
        Console().print(part, highlight=False, soft_wrap=isinstance(part, str))
    raise typer.Exit(GATE_EXIT_CODES[figures.outcome])


def _write_markdown(text: str, target: Path | None) -> None:
    """To the file named, else at the end of the summary of a step on GitHub, if there is one."""
    if target is not None:
        with atomic_file(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    elif os.environ.get(STEP_SUMMARY):
        with Path(os.environ[STEP_SUMMARY]).open("a", encoding="utf-8") as summary:
            summary.write(text)


def _share(name: str, value: float) -> float:
    highest = 0.5 if name == "significance" else 1.0
    if not 0 < value < highest:
        raise UserError(
            f"--{name.replace('_', '-')} {value:g}: allowed: more than 0 and less than {highest:g}"
        )
    return value
