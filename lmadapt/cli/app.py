"""The command line, `lmadapt COMMAND` in the project's folder; heavy libraries load only where a command needs them."""

import gc
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from lmadapt.cli.registry import PARAMS, commands, say, tracking_uri
from lmadapt.core.dvc_graph import stage_paths
from lmadapt.core.environment import prepare_environment
from lmadapt.core.errors import UserError
from lmadapt.core.sections import read_params

RECIPES = Path("recipes")
GATE_EXIT_CODES = {"SHIP": 0, "HOLD": 2, "INCONCLUSIVE": 3}
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


UsageError: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """Commands whose UserError ends the program with its one clear message and its exit code; wrong usage is 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            Console(stderr=True).print(
                f"[red]lmadapt:[/] {escape(str(error))}", soft_wrap=True, highlight=False
            )
            raise typer.Exit(error.exit_code) from None
        except UsageError as error:
            error.exit_code = 1  # Click's 2 would read as HOLD where `gate` is misspelt
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Teach a language model your domain, and prove what it kept. `dvc repro` runs the pipeline.",
)


app.add_typer(commands)


@app.callback()
def _prepare(context: typer.Context) -> None:
    gc.set_threshold(
        50_000
    )  # collecting all the while takes a quarter of the seconds that importing MLflow takes
    prepare_environment(offline=context.invoked_subcommand != "plan")


@app.command()
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


@app.command()
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


@app.command()
def doctor(
    gradient: Annotated[
        bool, typer.Option(help="Try three training steps: half a minute for a small model.")
    ] = True,
) -> None:
    """Check this machine and project: versions, disk, data, template, labels, gradients. Exit 1 on a failure.

    Example: `lmadapt doctor --no-gradient`
    """
    from lmadapt.planning.doctor import diagnose

    checks = diagnose(Path.cwd(), gradient=gradient)
    for check in checks:
        say(
            f"[{COLOURS[check.status]}]{check.status:<8}[/] [bold]{escape(check.name)}[/]: {escape(check.detail)}"
        )
    if any(check.status == "failed" for check in checks):
        raise typer.Exit(1)


@app.command()
def gate() -> None:
    """Tell CI the verdict by exit code: 0 SHIP, 2 HOLD, 3 INCONCLUSIVE, 1 when there is none.

    Example: `dvc repro && lmadapt gate && ./deploy.sh`
    """
    from lmadapt.provenance.lineage import read_evaluation

    verdict = read_evaluation(stage_paths("evaluate")["metrics"])["verdict"]
    if verdict["outcome"] not in GATE_EXIT_CODES:
        raise UserError(
            f"unknown verdict {verdict['outcome']!r}; allowed: {', '.join(GATE_EXIT_CODES)}"
        )
    say(f"{verdict['outcome']}: {escape(verdict['reason'])}")
    raise typer.Exit(GATE_EXIT_CODES[verdict["outcome"]])


@app.command()
def generate(
    prompts: Annotated[
        list[str], typer.Argument(metavar="PROMPT...", help="One or more questions.")
    ],
    model: Annotated[
        str, typer.Option(help="base, pretrained, adapted, models:/NAME@ALIAS, or a folder.")
    ] = "adapted",
    compare: Annotated[
        str | None, typer.Option(help="A second model, shown beside the first.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 is greedy: the same answer each time.")
    ] = 0.0,
) -> None:
    """Ask a model, or two side by side.

    Example: `lmadapt generate "What is a buffer overflow?" --model adapted --compare base`
    """
    from lmadapt.registry.ask import answer_with

    paths = stage_paths("evaluate")
    models = [model] if compare is None else [model, compare]
    address = tracking_uri() if any(name.startswith("models:/") for name in models) else ""
    answers = [
        answer_with(
            name,
            prompts,
            paths,
            tracking_uri=address,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )
        for name in models
    ]
    table = Table("prompt", *models, show_lines=True)
    for row in zip(prompts, *answers, strict=True):
        table.add_row(*map(escape, row))
    Console().print(table)


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="base, pretrained, adapted, or a folder with a model or an adapter."),
    ],
    against: Annotated[
        str, typer.Option(help="The model to compare it with, named in the same way.")
    ] = "base",
    items: Annotated[
        Path | None, typer.Option(help="Other items than the pipeline's: .jsonl, .csv, …")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for evaluate.json and forgetting.html.")] = Path(
        "reports/pair"
    ),
) -> None:
    """Judge one model against another on the same items, as the pipeline does; settings: `evaluate` in params.yaml.

    An adapter goes over models/pretrained. What a model answered before is not asked again.
    Example: `lmadapt evaluate adapted --against /data/last-release/adapter`
    """
    from lmadapt.evaluation.answer_cache import ANSWER_FILE
    from lmadapt.evaluation.variants import ModelVariant, model_folders
    from lmadapt.report.side_by_side import compare_models

    paths, settings = stage_paths("evaluate"), read_params(PARAMS).get("evaluate") or {}
    variants = []
    for name in (model, against):
        folder, adapter = model_folders(name, paths)
        variants.append(ModelVariant(folder, settings["precision"], adapter))
    figures = compare_models(
        *variants,
        items=items or paths["items"],
        heldout=paths["heldout"],
        settings=settings,
        kept=ANSWER_FILE,
        target=out,
    )
    say(f"{figures.verdict.outcome}: {escape(figures.verdict.reason)}")
    say(f"Report: {out / 'forgetting.html'}")


@app.command()
def summary() -> None:
    """Show what the last run gave: the models side by side, the verdict, the report, the registry version.

    Example: `dvc repro && lmadapt summary`
    """
    from lmadapt.report.terminal import render_result

    evaluate = stage_paths("evaluate")
    for part in render_result(
        evaluate["metrics"], evaluate["report"], stage_paths("register")["metrics"]
    ):
        Console().print(part, highlight=False)


@app.command()
def report(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="A summary for a pull request instead.")
    ] = False,
) -> None:
    """Say where the report of the last evaluation lies, or print it in short as Markdown.

    Example: `lmadapt report --markdown | gh pr comment --body-file -`
    """
    from lmadapt.provenance.lineage import read_evaluation
    from lmadapt.report.markdown import summarise_in_markdown

    paths = stage_paths("evaluate")
    figures = read_evaluation(paths["metrics"])
    typer.echo(summarise_in_markdown(figures) if markdown else paths["report"])


@app.command()
def why(
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT_ID", help="As in data/curated/decisions.parquet.")
    ],
) -> None:
    """Tell what curation did with one document, by which rule and on what evidence.

    Example: `lmadapt why notes/intro.md`
    """
    from lmadapt.provenance.explain_document import tell_story

    paths = stage_paths("curate")
    for heading, text in tell_story(document, paths["raw"], paths["curated"]):
        say(f"[bold]{escape(heading)}[/]\n{escape(text)}\n")
