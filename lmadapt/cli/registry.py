"""The commands about versions: which there are, which one serves, where one came from."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmadapt.cli.console import say
from lmadapt.core.errors import UserError
from lmadapt.core.sections import read_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from lmadapt.provenance.document import Lineage

PARAMS = Path("params.yaml")
PANEL = "Versions in the registry"
SHOWN_TAGS = ("verdict", "domain_change", "general_change", "status", "git_commit")
TRACED = {True: ("trained on", 0), False: ("not trained on", 2), None: ("unknown", 3)}

commands = typer.Typer()
Version = Annotated[str, typer.Argument(metavar="VERSION", help="NAME/NUMBER or NAME@ALIAS.")]
Name = Annotated[str | None, typer.Argument(help="Default: register.model_name in params.yaml.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded with the version.")]


def tracking_uri() -> str:
    """Where the registry is: MLFLOW_TRACKING_URI, or else register.tracking_uri in params.yaml."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _register_setting("tracking_uri")


@commands.command(rich_help_panel=PANEL)
def models(name: Name = None) -> None:
    """List the versions of a model: aliases, verdict, figures, age.

    Exit code: 0, 1 when there is no such model, 75 when the registry does not answer.

    Example: `lmadapt models`
    """
    from lmadapt.registry.versions import versions_of

    table = Table("version", "aliases", *SHOWN_TAGS, "days old")
    for version, aliases in versions_of(connected(), model_name(name)):
        shown = [version.tags.get(tag, "")[:10] for tag in SHOWN_TAGS]
        days = (time.time() - version.creation_timestamp / 1000) / 86400
        table.add_row(str(version.version), ", ".join(aliases), *map(escape, shown), f"{days:.1f}")
    Console().print(table)


@commands.command(rich_help_panel=PANEL)
def promote(
    version: Version,
    force: Annotated[
        bool, typer.Option("--force", help="Skip verdict and test; needs --reason.")
    ] = False,
    reason: Reason = "",
) -> None:
    """Make a version champion, if it passes the test against the present champion.

    When champion or anchor answered other items, they are asked the version's items first. The
    sealed part of the exam (evaluate.sealed_fraction) is opened last, and each opening is counted.

    Exit code: 0, 1 when the version is refused (the message says why), 75 when the registry does
    not answer.

    Example: `lmadapt promote lmadapt-demo/4`
    """
    from lmadapt.registry.promotion import promote
    from lmadapt.registry.rescoring import scores_on_items_of
    from lmadapt.registry.sealed_part import open_if_all_else_passes
    from lmadapt.registry.versions import named_version

    if force != bool(reason):
        raise UserError("--force needs --reason, and --reason needs --force")
    client = connected()
    found = named_version(client, version)
    asked = {} if force else scores_on_items_of(client, found)
    opening = None if force else open_if_all_else_passes(client, found, asked)
    standing = promote(client, found, reason=reason, asked=asked, opening=opening)
    if standing.ledger:
        say(standing.ledger.in_words())
    if standing.refusal:
        raise UserError(
            f"{found.name} version {found.version} is not made champion: {standing.refusal}"
        )
    say(f"{found.name} version {found.version} is champion")


@commands.command(rich_help_panel=PANEL)
def rollback(name: Name = None, reason: Reason = "") -> None:
    """Give the alias champion back to the version that had it before.

    The version that loses it is promoted again only with `--force`.

    Exit code: 0, 1 when there was no champion before, 75 when the registry does not answer.

    Example: `lmadapt rollback --reason "answers in French"`
    """
    from lmadapt.registry.promotion import roll_back

    name = model_name(name)
    before, now = roll_back(connected(), name, reason)
    say(f"{name}: version {now} is champion again, instead of version {before}")


@commands.command(rich_help_panel=PANEL)
def lineage(version: Version) -> None:
    """Print what a version was made from, down to the raw files, with hashes.

    Exit code: 0, 1 when there is no such version, 75 when the registry does not answer.

    Example: `lmadapt lineage lmadapt-demo@champion`
    """
    from lmadapt.provenance.tree import lineage_tree

    Console().print(lineage_tree(_lineage(version), version), soft_wrap=True, highlight=False)


@commands.command(rich_help_panel=PANEL)
def trace(
    version: Version,
    document: Annotated[
        str, typer.Option(help="Its id, as in data/raw and data/curated/decisions.parquet.")
    ],
) -> None:
    """Tell whether a version was trained on a document, and why.

    Exit code: 0 trained on, 2 not trained on, 3 unknown, 1 when the data had no such document.

    Example: `lmadapt trace lmadapt-demo@champion --document corpus/weaknesses/79`
    """
    from lmadapt.provenance.trace_document import trace_document

    traced = trace_document(_lineage(version), document)
    for step in traced.steps:
        say(f"  {escape(step)}")
    outcome, code = TRACED[traced.trained]
    say(f"{escape(document)}: {outcome}")
    raise typer.Exit(code)


@commands.command(rich_help_panel=PANEL)
def reproduce(
    version: Version,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Run every stage, even those in DVC's cache.")
    ] = False,
) -> None:
    """Run the stages of a version again from its commit, and compare the hashes.

    It works in a git worktree of its own; your files stay as they are.

    Exit code: 0 when all hashes are the same, 1 when one differs or a stage fails.

    Example: `lmadapt reproduce lmadapt-demo@champion`
    """
    from lmadapt.provenance.reproduce import reproduce

    outputs = reproduce(_lineage(version), Path.cwd(), rerun=rerun)
    table = Table("stage", "output", "then", "now", "")
    for output in outputs:
        outcome = "same" if output.same else "[red]different[/]"
        table.add_row(output.stage, output.path, output.then, output.now, outcome)
    Console().print(table)
    if not all(output.same for output in outputs):
        raise typer.Exit(1)


@commands.command(rich_help_panel=PANEL)
def serve(
    version: Version,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8000,
    follow: Annotated[
        bool, typer.Option("--follow", help="Restart with the new version when the alias moves.")
    ] = False,
    poll_seconds: Annotated[
        float, typer.Option(min=0.1, help="How often --follow reads the alias.")
    ] = 10.0,
) -> None:
    """Serve a version over OpenAI's protocol, by vLLM if it is installed, or `transformers serve`.

    Exit code: that of the server; 1 when the port is in use or the version cannot be served.

    Example: `lmadapt serve lmadapt-demo@champion --port 8000 --follow`
    """
    from lmadapt.registry.serving import Serving, serve

    poll = poll_seconds if follow else None
    raise typer.Exit(serve(Serving(connected(), version, port, poll, say)))


def connected() -> "MlflowClient":
    """A client of the registry that params.yaml or the environment names."""
    from lmadapt.registry.connection import connect

    return connect(tracking_uri(), Path.cwd())


def model_name(name: str | None) -> str:
    """The name that was given, or else register.model_name in params.yaml."""
    return name or _register_setting("model_name")


def _lineage(reference: str) -> "Lineage":
    from lmadapt.registry.versions import named_version, read_lineage

    client = connected()
    return read_lineage(client, named_version(client, reference))


def _register_setting(key: str) -> str:
    section = read_params(PARAMS).get("register")
    if not isinstance(section, dict) or key not in section:
        raise UserError(f"{PARAMS}: register.{key} is missing")
    return str(section[key])
