"""The commands after a run: the result, the report, other models, single documents."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmadapt.cli.console import say
from lmadapt.cli.registry import PARAMS, tracking_uri
from lmadapt.core.dvc_graph import stage_paths
from lmadapt.core.errors import UserError
from lmadapt.core.sections import plain, read_params

if TYPE_CHECKING:
    from lmadapt.verdict.figures import VerdictFigures

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
        str | None,
        typer.Option(
            help="The model to compare it with, named in the same way, or models:/NAME@ALIAS. "
            "Default: evaluate.reference."
        ),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="A file of items (.jsonl, .csv, …) to ask instead.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for evaluate.json and forgetting.html.")] = Path(
        "reports/pair"
    ),
    precision: Annotated[
        Literal["nf4", "bf16"] | None,
        typer.Option(help="Default: evaluate.precision."),
    ] = None,
    against_precision: Annotated[
        Literal["nf4", "bf16"] | None,
        typer.Option(help="A version keeps its own. Default: evaluate.reference_precision."),
    ] = None,
) -> None:
    """Judge one model against another on the same items, as the pipeline does.

    The settings are those in section `evaluate` of params.yaml. An adapter runs over
    models/pretrained, or is merged into it when register.artifact is merged. Answers from earlier
    runs are used again.

    Exit code: 0 whatever the verdict is, 1 when the models cannot be compared.

    Example: `lmadapt evaluate adapted --against /data/last-release/adapter`
    """
    paths, params = stage_paths("evaluate"), plain(read_params(PARAMS))
    against = against or _evaluate_setting("reference")
    params["evaluate"] |= {
        "precision": precision or _evaluate_setting("precision"),
        "reference_precision": against_precision or _evaluate_setting("reference_precision"),
    }
    verdict = _judge_pair(model, against, params, paths | {"items": items or paths["items"]}, out)
    say(f"{verdict.title}: {escape(verdict.reason)}")
    for line in verdict.reservations:
        say(f"Reservation: {escape(line)}")
    say(f"Report: {out / 'forgetting.html'}")


def _evaluate_setting(key: str) -> Any:
    section = read_params(PARAMS).get("evaluate")
    if not isinstance(section, dict) or key not in section:
        raise UserError(f"{PARAMS}: evaluate.{key} is missing")
    return section[key]


def _judge_pair(
    model: str, against: str, params: dict[str, Any], paths: dict[str, Path], out: Path
) -> "VerdictFigures":
    from lmadapt.evaluation.answer_cache import ANSWER_FILE
    from lmadapt.evaluation.variants import ModelVariant, model_folders
    from lmadapt.registry.reference import open_model
    from lmadapt.report.side_by_side import compare_models

    folder, adapter = model_folders(model, paths)
    merged = adapter is not None and params["register"]["artifact"] == "merged"
    settings = params["evaluate"]
    address = tracking_uri() if against.startswith("models:/") else ""
    with open_model(
        against, settings["reference_precision"], paths, tracking_uri=address
    ) as reference:
        return compare_models(
            ModelVariant(folder, settings["precision"], adapter, merged=merged),
            reference,
            items=paths["items"],
            heldout=paths["heldout"],
            settings=settings,
            kept=ANSWER_FILE,
            target=out,
        ).verdict


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

    Models of the pipeline and folders run in evaluate.precision, a version as it was judged.

    Exit code: 0, 1 when there is no such model, 75 when the registry does not answer.

    Example: `lmadapt generate "What is a buffer overflow?" --model adapted --compare base`
    """
    from lmadapt.registry.ask import answer_with

    paths = stage_paths("evaluate")
    models = [model] if compare is None else [model, compare]
    precision = _evaluate_setting("precision")
    address = tracking_uri() if any(name.startswith("models:/") for name in models) else ""
    answers = [
        answer_with(
            name,
            prompts,
            paths,
            precision=precision,
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
