"""The commands before a run: choose a recipe, plan its memory, check machine and project."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lmadapt.cli.console import say
from lmadapt.core.sections import read_params

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")
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
) -> None:
    """Estimate memory and time of both trainings before they start. Exit 1 when one does not fit.

    It reads only the model's config.json and loads no weights. The estimate runs from *low* to
    *high*; a training fits when *high* does. Where one does not fit, the changes that would help
    are listed, the cheapest first.

    Without `--gpu` it plans for the GPUs of this machine; without GPUs here, for those that the
    recipe is named after; else for this CPU. docs/plan.md explains the estimate.

    Examples: `lmadapt plan`, `lmadapt plan --gpu 24GB`, `lmadapt plan --recipe 70b-8x80gb`
    """
    from lmadapt.core.recipes import read_recipe
    from lmadapt.planning.devices import named_device, planning_device
    from lmadapt.planning.plan import plan_params
    from lmadapt.planning.plan_table import render_plan

    params = read_recipe(recipe, RECIPES) if recipe else read_params(PARAMS)
    device = named_device(gpu) if gpu else planning_device(recipe)
    source = f"recipe {recipe}" if recipe else str(PARAMS)
    plans = plan_params(params, source, device, fetched=recipe is None)
    for part in render_plan(plans):
        Console().print(part, highlight=False, soft_wrap=True)
    if any(plan.verdict == "too large" for plan in plans):
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
