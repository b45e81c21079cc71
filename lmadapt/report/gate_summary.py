"""Shows what `lmadapt gate BEFORE AFTER` found: at the terminal, and as Markdown."""

from collections.abc import Iterator, Sequence

from rich.markup import escape as escape_for_rich
from rich.table import Table

from lmadapt.evaluation.gate import WHOLE, GateFigures, GateRow
from lmadapt.report.formats import percent, points
from lmadapt.report.markdown import SIGNS, escape
from lmadapt.report.terminal import COLOURS
from lmadapt.verdict.figures import outcome_title

HEADER = ("", "n", "before", "after", "change, points", "margin", "lost", "gained")


def render_gate(figures: GateFigures) -> Iterator[Table | str]:
    """What to print, in order: the table, the notes, the verdict."""
    table = Table(title="What changed, item by item", title_justify="left")
    table.add_column("")
    for heading in HEADER[1:]:
        table.add_column(heading, justify="right")
    for row in figures.rows:
        cells = [escape_for_rich(cell) for cell in _cells(row)]
        table.add_row(*cells, style="bold" if row.whole else "")
    yield table
    yield f"Scored by: {escape_for_rich(_scored_by(figures))}"
    for note in figures.notes:
        yield f"Note: {escape_for_rich(note)}"
    colour = COLOURS[figures.outcome]
    title = outcome_title(figures.outcome, figures.reservations)
    yield f"Verdict: [{colour} bold]{title}[/]. {escape_for_rich(figures.reason)}"
    yield from (f"Reservation: {escape_for_rich(line)}" for line in figures.reservations)


def gate_in_markdown(figures: GateFigures) -> str:
    """The same in GitHub-flavoured Markdown; what comes from files is escaped."""
    level = round(100 * (1 - 2 * figures.significance))
    lines = [
        f"### {SIGNS[figures.outcome]} {outcome_title(figures.outcome, figures.reservations)}",
        "",
        escape(figures.reason),
        "",
        *(f"- {escape(line)}" for line in figures.reservations),
        "",
        _line(HEADER),
        _line(["---", *["---:"] * (len(HEADER) - 1)]),
    ]
    for row in figures.rows:
        cells = [escape(cell) for cell in _cells(row)]
        lines.append(_line([f"**{cells[0]}**", *cells[1:]] if row.whole else cells))
    lines += ["", f"Ranges are {level} % intervals. Scored by: {escape(_scored_by(figures))}."]
    lines += [f"- {escape(note)}" for note in figures.notes]
    return "\n".join([*lines, ""])


def _cells(row: GateRow) -> Sequence[str]:
    low, high = map(points, row.interval)
    names = {WHOLE: "all items", "domain": "domain", "general": "general"}
    named = row.name if row.group == WHOLE else f"{row.group}: {row.name}"
    return [
        names[row.group] if row.whole else named,
        f"{row.n:,}",
        f"{percent(row.before)} %",
        f"{percent(row.after)} %",
        f"{points(row.difference)} [{low}, {high}]",
        "" if row.margin is None else f"{100 * row.margin:g}",
        f"{row.lost:,}",
        f"{row.gained:,}",
    ]


def _scored_by(figures: GateFigures) -> str:
    """Metrics with their tasks; the tasks are left out where all have the same."""
    metrics = sorted(set(figures.scored_by.values()))
    if len(metrics) == 1:
        return metrics[0]
    return "; ".join(f"{task}: {metric}" for task, metric in sorted(figures.scored_by.items()))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
