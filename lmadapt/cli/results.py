"""The commands after a run: the result, the report, other models, single documents."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmadapt.cli.console import say
from lmadapt.cli.registry import PARAMS, tracking_uri
from lmadapt.core.dvc_graph import stage_paths
from lmadapt.core.sections import read_params

PANEL = "After a run"

commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def summary() -> None:
    """Show the result of the last run.

    It shows the models side by side, the verdict, where the report is, and the version in the
    registry.

    Exit code: 0, or 1 when the pipeline has not run to its end.

    Example: `dvc repro && lmadapt summary`
    """
    from lmadapt.report.terminal import render_result

    paths, registered = stage_paths("evaluate"), stage_paths("register")["metrics"]
    for part in render_result(paths["metrics"], paths["report"], registered):
        Console().print(part, highlight=False)


@commands.command(rich_help_panel=PANEL)
def report(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a summary for a pull request instead.")
    ] = False,
) -> None:
    """Print the path of the last report, or a Markdown summary of it.

    Exit code: 0, or 1 when there is no evaluation.

    Example: `lmadapt report --markdown | gh pr comment --body-file -`
    """
    from lmadapt.report.markdown import summarise_in_markdown
    from lmadapt.verdict.figures import read_evaluation

    paths = stage_paths("evaluate")
    figures = read_evaluation(paths["metrics"])
    typer.echo(summarise_in_markdown(figures) if markdown else paths["report"])


@commands.command(rich_help_panel=PANEL)
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="base, pretrained, adapted, or a folder with a model or an adapter."),
    ],
    against: Annotated[
        str, typer.Option(help="The model to compare it with, named in the same way.")
    ] = "base",
    items: Annotated[
        Path | None, typer.Option(help="A file of items (.jsonl, .csv, …) to ask instead.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for evaluate.json and forgetting.html.")] = Path(
        "reports/pair"
    ),
) -> None:
    """Judge one model against another on the same items, as the pipeline does.

    The settings are those in section `evaluate` of params.yaml. An adapter runs over
    models/pretrained. Answers from earlier runs are used again.

    Exit code: 0 whatever the verdict is, 1 when the models cannot be compared.

    Example: `lmadapt evaluate adapted --against /data/last-release/adapter`
    """
    from lmadapt.evaluation.answer_cache import ANSWER_FILE
    from lmadapt.evaluation.variants import ModelVariant, model_folders
    from lmadapt.report.side_by_side import compare_models

    paths, settings = stage_paths("evaluate"), read_params(PARAMS).get("evaluate") or {}

    def variant(name: str) -> ModelVariant:
        folder, adapter = model_folders(name, paths)
        return ModelVariant(folder, settings["precision"], adapter)

    verdict = compare_models(
        variant(model),
        variant(against),
        items=items or paths["items"],
        heldout=paths["heldout"],
        settings=settings,
        kept=ANSWER_FILE,
        target=out,
    ).verdict
    say(f"{verdict.outcome}: {escape(verdict.reason)}")
    say(f"Report: {out / 'forgetting.html'}")


@commands.command(rich_help_panel=PANEL)
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
    """Ask a model, or two models side by side.

    Exit code: 0, 1 when there is no such model, 75 when the registry does not answer.

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


@commands.command(rich_help_panel=PANEL)
def why(
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT_ID", help="As in data/curated/decisions.parquet.")
    ],
) -> None:
    """Explain what curation did with a document, by which rule and on what evidence.

    Exit code: 0, or 1 when there is no such document; the message names similar ids.

    Example: `lmadapt why notes/intro.md`
    """
    from lmadapt.provenance.explain_document import explain_document

    paths = stage_paths("curate")
    for heading, text in explain_document(document, paths["raw"], paths["curated"]):
        say(f"[bold]{escape(heading)}[/]\n{escape(text)}\n")
