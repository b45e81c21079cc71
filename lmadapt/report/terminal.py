"""Shows the result of a run at the terminal: the models side by side, the verdict, what to open."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from lmadapt.core.files import read_json
from lmadapt.report.model_names import shown_models, titles
from lmadapt.verdict.figures import Change, EvaluationFigures, Text, TextChange, read_evaluation
from lmadapt.verdict.item_figures import ConfidentLosses

COLOURS = {"SHIP": "green", "HOLD": "red", "INCONCLUSIVE": "yellow"}


def render_result(evaluation: Path, report: Path, registration: Path) -> Iterator[Table | str]:
    """What to print, in order.

    `evaluation` is metrics/evaluate.json, `registration` metrics/register.json. Raises UserError
    when one of them is missing, which means that the pipeline has not run to its end.
    """
    figures = read_evaluation(evaluation)
    version = read_json(registration)
    yield _table(figures)
    verdict = figures.verdict
    colour = COLOURS[verdict.outcome]
    yield f"Verdict: [{colour} bold]{verdict.title}[/]. {escape(verdict.reason)}"
    if figures.confident_losses:
        yield _confident_losses(figures.confident_losses)
    yield from (f"Reservation: {escape(line)}" for line in verdict.reservations)
    yield from (f"Next: {escape(line)}" for line in verdict.remedy)
    yield f"Report: {report}"
    name = version["model_name"]
    aliases = ", ".join(f"models:/{name}@{alias}" for alias in version["aliases"])
    yield f"Registry: {name} version {version['version']} ({aliases})"
    if exam := version.get("exam"):
        yield f"Looks: {escape(exam['in_words'])}"


def _table(figures: EvaluationFigures) -> Table:
    table = Table(title="What the model learnt and what it kept", title_justify="left")
    table.add_column("")
    for heading in (*titles(figures).values(), "adapted - reference"):
        table.add_column(escape(heading), justify="right")
    models = [figures.models[name] for name in shown_models(figures)]
    change = figures.changes["adapted_vs_reference"]
    accuracies = {
        "domain": ([model.domain for model in models], change.domain),
        "general": ([model.general for model in models], change.general),
    }
    for group, (measured, moved) in accuracies.items():
        cells = [_accuracy(entry.accuracy, entry.interval) for entry in measured]
        table.add_row(f"{group} accuracy, n = {measured[-1].n:,}", *cells, _points(moved))
    for group, moved in (("domain", change.domain), ("general", change.general)):
        if moved.graded:
            low, high = moved.graded.interval
            cell = f"{100 * moved.graded.difference:+.1f} \\[{100 * low:+.1f}, {100 * high:+.1f}]"
            table.add_row(f"{group}, graded score", *[""] * len(models), cell)
    bits = [model.bits_per_byte for model in models]
    domain = _bits([text.domain for text in bits], change.bits_per_byte.domain)
    general = _bits([text.general for text in bits], change.bits_per_byte.general)
    table.add_row("domain text, bits per byte", *domain)
    table.add_row("general text, bits per byte", *general)
    return table


def _confident_losses(found: ConfidentLosses) -> str:
    low, high = found.interval
    return (
        f"Of {found.known:,} general items that the base knew well, {found.lost:,} were lost "
        f"({100 * found.share:.1f} % \\[{100 * low:.1f}, {100 * high:.1f}])."
    )


def _accuracy(share: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * share:.1f} % \\[{100 * low:.1f}, {100 * high:.1f}]"


def _points(change: Change) -> str:
    low, high = change.interval
    return f"{100 * change.difference:+.1f} points \\[{100 * low:+.1f}, {100 * high:+.1f}]"


def _bits(texts: Sequence[Text], change: TextChange) -> list[str]:
    """A cell for each model, and one for the change."""
    values = [_cell(text.value, text.interval, ".3f") for text in texts]
    return [*values, _cell(change.difference, change.interval, "+.3f")]


def _cell(value: float | None, interval: tuple[float, float] | None, form: str) -> str:
    if value is None or interval is None:
        return "not measured"
    low, high = (format(bound, form) for bound in interval)
    return f"{value:{form}} \\[{low}, {high}]"
