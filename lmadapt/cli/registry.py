"""The commands about versions in the registry: what there is, what serves, where it came from."""

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmadapt.core.errors import UserError
from lmadapt.core.sections import read_params

PARAMS = Path("params.yaml")
commands = typer.Typer()
Version = Annotated[str, typer.Argument(metavar="VERSION", help="NAME/NUMBER or NAME@ALIAS.")]
Name = Annotated[str | None, typer.Argument(help="Default: that of params.yaml.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded with the version.")]


def tracking_uri() -> str:
    """Where the registry is: MLFLOW_TRACKING_URI, else register.tracking_uri in params.yaml."""
    return os.environ.get("MLFLOW_TRACKING_URI") or str(_register_setting("tracking_uri"))


@commands.command()
def promote(
    version: Version,
    force: Annotated[
        bool, typer.Option("--force", help="Whatever verdict and test say; needs --reason.")
    ] = False,
    reason: Reason = "",
) -> None:
    """Make a version champion, if it passes against the present one; exit 1 and the reason if not.

    Where the two answered different items, the champion is put to the version's items first.

    Example: `lmadapt promote lmadapt-demo/4`
    """
    from lmadapt.registry.promotion import promote
    from lmadapt.registry.rescoring import scores_on_items_of
    from lmadapt.registry.versions import named_version

    if force != bool(reason):
        raise UserError(
            "--force and --reason go together: what is forced is recorded with its reason"
        )
    client = _client()
    found = named_version(client, version)
    promotion = promote(
        client, found, reason=reason, before=None if force else scores_on_items_of(client, found)
    )
    if promotion.refusal:
        raise UserError(
            f"{found.name} version {found.version} is not made champion: {promotion.refusal}"
        )
    say(f"{found.name} version {found.version} is champion")


@commands.command()
def rollback(name: Name = None, reason: Reason = "") -> None:
    """Give the alias champion back to the version that had it before.

    Example: `lmadapt rollback --reason "answers in French"`
    """
    from lmadapt.registry.promotion import roll_back

    name = name or _register_setting("model_name")
    before, now = roll_back(_client(), name, reason)
    say(f"{name}: champion went back from version {before} to {now}")


@commands.command()
def models(name: Name = None) -> None:
    """List the versions of a model: verdict, figures, aliases, age.

    Example: `lmadapt models`
    """
    from lmadapt.registry.versions import versions_of

    tags = ("verdict", "domain_change", "general_change", "status", "git_commit")
    table = Table("version", "aliases", *tags, "days old")
    for version, aliases in versions_of(_client(), name or _register_setting("model_name")):
        shown = [version.tags.get(tag, "")[:10] for tag in tags]
        age = (time.time() - version.creation_timestamp / 1000) / 86400
        table.add_row(str(version.version), ", ".join(aliases), *map(escape, shown), f"{age:.1f}")
    Console().print(table)


@commands.command()
def lineage(version: Version) -> None:
    """Print the chain from a version down to raw files, with hashes.

    Example: `lmadapt lineage lmadapt-demo@champion`
    """
    from lmadapt.provenance.lineage import lineage_tree

    Console().print(lineage_tree(_lineage(version), version), soft_wrap=True, highlight=False)


@commands.command()
def trace(
    version: Version,
    document: Annotated[
        str, typer.Option(help="Its id, as in data/raw and data/curated/decisions.parquet.")
    ],
) -> None:
    """Say whether a document was trained on, and why. Exit 0: it was, 2: it was not, 3: it cannot be said.

    Example: `lmadapt trace lmadapt-demo@champion --document corpus/weaknesses/79`
    """
    from lmadapt.provenance.trace_document import trace_document

    trained, steps = trace_document(_lineage(version), document)
    for step in steps:
        say(f"  {escape(step)}")
    outcome, code = {True: ("trained on", 0), False: ("not trained on", 2), None: ("not known", 3)}[
        trained
    ]
    say(f"{escape(document)}: {outcome}")
    raise typer.Exit(code)


@commands.command()
def reproduce(
    version: Version,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Run every stage, even those DVC's cache holds.")
    ] = False,
) -> None:
    """Make a version again from its commit, in a worktree of its own, and compare the hashes; exit 1 if they differ.

    Example: `lmadapt reproduce lmadapt-demo@champion`
    """
    from lmadapt.provenance.reproduce import reproduce

    rows = reproduce(_lineage(version), Path.cwd(), rerun=rerun)
    table = Table("stage", "wrote", "then", "now", "")
    for row in rows:
        table.add_row(*row, "same" if row[2] == row[3] else "[red]different[/]")
    Console().print(table)
    if any(then != now for *_, then, now in rows):
        raise typer.Exit(1)


@commands.command()
def serve(
    version: Version,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8000,
    follow: Annotated[bool, typer.Option("--follow", help="Restart when the alias moves.")] = False,
    poll_seconds: Annotated[
        float, typer.Option(min=0.1, help="How often --follow reads the alias.")
    ] = 10.0,
) -> None:
    """Serve a version over OpenAI's protocol: by vLLM where it is installed, else by `transformers serve`.

    Example: `lmadapt serve lmadapt-demo@champion --port 8000 --follow`
    """
    from lmadapt.registry.serving import serve

    raise typer.Exit(
        serve(_client(), version, port=port, poll_seconds=poll_seconds if follow else None, say=say)
    )


def _client() -> Any:
    from lmadapt.registry.versions import connect

    return connect(tracking_uri(), Path.cwd())


def _lineage(reference: str) -> dict[str, Any]:
    from lmadapt.registry.versions import named_version, read_lineage

    client = _client()
    return read_lineage(client, named_version(client, reference))


def _register_setting(key: str) -> str:
    section = read_params(PARAMS).get("register")
    if not isinstance(section, dict) or key not in section:
        raise UserError(f"{PARAMS}: register.{key} is missing")
    return str(section[key])


def say(text: str) -> None:
    """Print text with Rich's markup as it is: neither wrapped nor highlighted."""
    Console().print(text, soft_wrap=True, highlight=False)
