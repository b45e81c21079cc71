"""The commands before a run: choose a recipe, plan its memory, check machine and project."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lmadapt.cli.console import say

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}

commands = typer.Typer()


@commands.command(rich_help_panel="Before a run")
def use(
    recipe: Annotated[str | None, typer.Argument(help="Its name; none lists them all.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite changes that are not committed.")
    ] = False,
) -> None:
    """Put a recipe in use: write it over params.yaml.

    Example: `lmadapt use 8b-24gb`, then edit the sources in params.yaml, then `dvc repro`.
    """
    from lmadapt.core.recipes import list_recipes, use_recipe

    if recipe is None:
        for name, purpose in list_recipes(RECIPES).items():
            say(f"[bold]{name:<12}[/] {escape(purpose)}")
        return
    use_recipe(recipe, RECIPES, PARAMS, force=force)
    say(f"{PARAMS} is now the recipe {recipe}; `dvc repro` runs it")


@commands.command(rich_help_panel="Before a run")
def plan(
    recipe: Annotated[
        str | None, typer.Option(help="A recipe instead of params.yaml; `lmadapt use` lists them.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="24GB, 8x80GB, l40s, 2xh100, cpu, … instead of what is here."
        ),
    ] = None,
) -> None:
    """Tell whether both trainings fit, before they start: memory by part, micro-batch, steps, time. Exit 1 if not.

    Reads the model's config.json only: no weights are downloaded or loaded. *low* to *high* is what may happen;
    a training fits where *high* does, and what to change is listed in the order in which it costs least. Without
    `--gpu`: the GPUs found here; without any, those a recipe is named after, else this CPU. docs/plan.md says how.

    Examples: `lmadapt plan`, `lmadapt plan --gpu 24GB`, `lmadapt plan --recipe 70b-8x80gb`
    """
    from lmadapt.core.recipes import recipe_file
    from lmadapt.planning.plan import named_device, plan_params, planning_device, render_plan

    file = recipe_file(recipe, RECIPES) if recipe else PARAMS
    device = named_device(gpu) if gpu else planning_device(recipe)
    plans = plan_params(file, device, fetched=recipe is None)
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
        outcome = f"[{COLOURS[check.outcome]}]{check.outcome:<8}[/]"
        say(f"{outcome} [bold]{escape(check.name)}[/]: {escape(check.detail)}")
    if any(check.outcome == "failed" for check in checks):
        raise typer.Exit(1)
