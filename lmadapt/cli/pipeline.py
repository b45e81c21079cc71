"""The commands before a run: choose a recipe, plan its memory, check machine and project."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from lmadapt.cli.console import say
from lmadapt.core.sections import read_params

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")
FILE_WIDTH = 120  # columns of a table that is written to a file
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}

commands = typer.Typer()


@commands.command(rich_help_panel="Before a run")
def use(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of the recipe; without one, all are listed.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite changes that are not committed.")
    ] = False,
) -> None:
    """Write the settings of a recipe, with comments, to params.yaml.

    A recipe in recipes/ holds what differs from recipes/defaults.yaml.

    Example: `lmadapt use 8b-24gb`, then edit the sources in params.yaml, then `dvc repro`.
    """
    from lmadapt.core.recipes import list_recipes, use_recipe

    if recipe is None:
        for name, purpose in list_recipes(RECIPES).items():
            say(f"[bold]{name:<12}[/] {escape(purpose)}")
        return
    use_recipe(recipe, RECIPES, PARAMS, force=force)
    say(f"{PARAMS} now holds the recipe {recipe}; `dvc repro` runs it")


@commands.command(rich_help_panel="Before a run")
def plan(
    recipe: Annotated[
        str | None, typer.Option(help="Plan this recipe instead of params.yaml.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="24GB, 8x80GB, l40s, 2xh100, cpu, … instead of this machine."
        ),
    ] = None,
    exam: Annotated[
        bool, typer.Option("--exam", help="Plan the exam instead: can it decide?")
    ] = False,
    gain: Annotated[
        float, typer.Option(help="--exam: true gain of the domain, in points.", min=0.1, max=50)
    ] = 5.0,
    draws: Annotated[int, typer.Option(help="--exam: how often answers are drawn.", min=20)] = 400,
    as_json: Annotated[bool, typer.Option("--json", help="--exam: print figures as JSON.")] = False,
) -> None:
    """Estimate memory and time of both trainings before they start. Exit 1 when one does not fit.

    It reads only the model's config.json and loads no weights. The estimate runs from *low* to
    *high*; a training fits when *high* does. Where one does not fit, the changes that would help
    are listed, the cheapest first.

    Without `--gpu` it plans for the GPUs of this machine; without GPUs here, for those that the
    recipe is named after; else for this CPU. docs/plan.md explains the estimate.

    With `--exam` it says how likely SHIP, HOLD and INCONCLUSIVE are for a model that lost nothing,
    and how many items would do. Exit 1 when no result can be SHIP. docs/verdict.md explains it.

    Examples: `lmadapt plan`, `lmadapt plan --gpu 24GB`, `lmadapt plan --exam`
    """
    from lmadapt.core.recipes import read_recipe
    from lmadapt.planning.devices import named_device, planning_device
    from lmadapt.planning.plan import plan_params
    from lmadapt.planning.plan_table import render_plan

    params = read_recipe(recipe, RECIPES) if recipe else read_params(PARAMS)
    source = f"recipe {recipe}" if recipe else str(PARAMS)
    if exam:
        _plan_exam(params, source, gain=gain / 100, draws=draws, as_json=as_json)
        return
    device = named_device(gpu) if gpu else planning_device(recipe)
    plans = plan_params(params, source, device, fetched=recipe is None)
    for part in render_plan(plans):
        Console().print(part, highlight=False, soft_wrap=True)
    if any(plan.verdict == "too large" for plan in plans):
        raise typer.Exit(1)


def _plan_exam(
    params: Mapping[str, Any], source: str, *, gain: float, draws: int, as_json: bool
) -> None:
    """Print what the exam can decide; exit 1 when it can never end in SHIP."""
    from lmadapt.core.sections import check_section
    from lmadapt.planning.exam_plan import items_of_project, measured_correlation
    from lmadapt.planning.exam_table import render_exam
    from lmadapt.verdict.exam_power import CHURNS, Assumed, ExamSettings, exam_power, plan_items

    settings = check_section(ExamSettings, "evaluate", params, source)
    items = items_of_project(params, source)
    correlation, found_on = measured_correlation(Path("reports/predictions.parquet"), items.rows)
    planned = plan_items(items.rows, settings)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        # Answers are drawn for each churn, and again for the larger exam.
        task = progress.add_task("exam", total=2 * draws * len(CHURNS))
        power = exam_power(
            planned,
            settings,
            Assumed(gain=gain, correlation=correlation, draws=draws),
            simulate_sizes=True,
            tick=lambda: progress.advance(task),
        )
    if as_json:
        typer.echo(power.model_dump_json(indent=2))
    else:
        console = Console()
        if not console.is_terminal:
            console.width = max(console.width, FILE_WIDTH)
        for part in render_exam(power, items.origin, found_on):
            console.print(part, highlight=False, soft_wrap=isinstance(part, str))
        if params["evaluate"].get("lm_eval_tasks"):
            say("Items of evaluate.lm_eval_tasks come on top; they are not counted here.")
    if power.undecidable:
        raise typer.Exit(1)


@commands.command(rich_help_panel="Before a run")
def doctor(
    gradient: Annotated[
        bool, typer.Option(help="Try three training steps: half a minute for a small model.")
    ] = True,
) -> None:
    """Check this machine and this project before a run.

    The checks are: versions, disk, data, chat template, labels, gradients. A warning does not stop
    a run; a failed check does.

    Exit code: 0, or 1 when a check failed.

    Example: `lmadapt doctor --no-gradient`
    """
    from lmadapt.planning.doctor import diagnose

    checks = diagnose(Path.cwd(), gradient=gradient)
    for check in checks:
        status = f"[{COLOURS[check.status]}]{check.status:<8}[/]"
        say(f"{status} [bold]{escape(check.name)}[/]: {escape(check.detail)}")
    if any(check.status == "failed" for check in checks):
        raise typer.Exit(1)
