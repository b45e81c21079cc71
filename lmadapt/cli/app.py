"""The program `lmadapt`, run in the folder of a project.

Heavy libraries are imported only inside the commands that need them.
"""

import gc
import io
import sys
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from lmadapt.cli import exam, gate, pipeline, registry, results
from lmadapt.core.environment import prepare_environment
from lmadapt.core.errors import UserError

# With Python's own threshold, garbage collection takes a quarter of the time of importing MLflow.
GARBAGE_THRESHOLD = 50_000

UsageError: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """Commands that report a UserError as one message, and exit with its code.

    Wrong usage exits with 1: Click's own 2 would read as HOLD when `gate` is misspelt.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            message = f"[red]lmadapt:[/] {escape(str(error))}"
            Console(stderr=True).print(message, soft_wrap=True, highlight=False)
            raise typer.Exit(error.exit_code) from None
        except UsageError as error:
            error.exit_code = 1
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Teach a language model your domain, and measure what it forgot.\n\n"
    "Run the commands in the folder of your project. `lmadapt use` chooses a recipe, `dvc repro` "
    "runs the pipeline, `lmadapt summary` shows the result.\n\n"
    "Exit codes: 0 success, 1 an error or wrong usage, 75 something outside does not answer now "
    "(try again); further codes stand in a command's own help.",
)
for group in (pipeline, gate, results, registry):
    app.add_typer(group.commands)
app.add_typer(exam.commands, name="exam", rich_help_panel=registry.PANEL)


def _print_in_any_encoding() -> None:
    """Let characters that the terminal's encoding lacks, such as Latin-1's, be escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@app.callback()
def _prepare(context: typer.Context) -> None:
    gc.set_threshold(GARBAGE_THRESHOLD)
    _print_in_any_encoding()
    prepare_environment(offline=context.invoked_subcommand != "plan")
