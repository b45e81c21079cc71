"""What an exam can decide, as `lmadapt plan --exam` prints it."""

from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

from lmadapt.verdict.power_figures import ExamPower, Outcomes, QuestionPower, Rate


def render_exam(power: ExamPower, origin: str, correlation_source: str) -> Iterator[Any]:
    """What to print: the assumptions, a table, the sizes that would do, and what cannot pass."""
    yield (
        f"Exam from {escape(origin)}: a model that lost nothing and gained {power.gain * 100:g} "
        "points in the domain."
    )
    yield (
        "Churn is the share of the answers that change, half lost and half gained; in the domain "
        "the gain comes on top."
    )
    yield (
        f"Changes within a cluster correlate by {power.correlation:.2f} ({correlation_source}). "
        f"Planned for scores that are {power.score}. {power.draws} draws, seed {power.seed}."
    )
    yield ""
    yield _table(power)
    yield (
        "Each cell: SHIP / HOLD / INCONCLUSIVE in %; that of a question looks at it alone. The "
        f"draws leave an error of up to {_simulation_error(power) * 100:.0f} points (95 %)."
    )
    yield ""
    yield from _grown(power)
    yield from _impassable(power)


def _table(power: ExamPower) -> Table:
    table = Table()
    table.add_column("question")
    for heading in ("items", "clusters", "margin"):
        table.add_column(heading, justify="right")
    for seen in power.verdict:
        table.add_column(f"churn {seen.churn * 100:g} %", justify="right", no_wrap=True)
    churns = " | ".join(f"{seen.churn * 100:g}" for seen in power.verdict)
    table.add_column(f"items for 80 % SHIP, at {churns} %", justify="right")
    asked = {one.name: one for one in power.questions}
    whole = asked["domain"].items + asked["general ability"].items
    cells = ["verdict", f"{whole:,}", "", ""]
    table.add_row(*cells, *_shares(power.verdict), _needed(power.verdict), end_section=True)
    for one in power.questions:
        margin = "gain" if one.margin is None else f"{one.margin * 100:g}"
        cells = [_name(one), f"{one.items:,}", f"{one.clusters:,}", margin]
        table.add_row(*cells, *_shares(one.outcomes), _needed(one.outcomes))
    return table


def _name(one: QuestionPower) -> str:
    return escape(one.name) if one.passes_unchanged else f"[red]{escape(one.name)}[/]"


def _shares(outcomes: list[Outcomes]) -> list[str]:
    return [
        " / ".join(f"{rate.share * 100:.0f}" for rate in (one.ship, one.hold, one.inconclusive))
        for one in outcomes
    ]


def _needed(outcomes: list[Outcomes]) -> str:
    counts = ["> 10 M" if one.items_needed is None else f"{one.items_needed:,}" for one in outcomes]
    return " | ".join(counts)


def _simulation_error(power: ExamPower) -> float:
    rates: list[Rate] = []
    for one in [*power.verdict, *(seen for asked in power.questions for seen in asked.outcomes)]:
        rates += [one.ship, one.hold, one.inconclusive]
    return max((rate.high - rate.low) / 2 for rate in rates)


def _grown(power: ExamPower) -> Iterator[str]:
    """The sizes with which the verdict is SHIP in 80 %."""
    asked = {one.name: one.items for one in power.questions}
    for exam in power.grown:
        more = [
            f"{escape(name)} {items:,}" for name, items in exam.items.items() if items > asked[name]
        ]
        simulated = "too large to simulate"
        if exam.ship:
            low, high = exam.ship.low * 100, exam.ship.high * 100
            simulated = f"simulated: {exam.ship.share * 100:.0f} % [{low:.0f}, {high:.0f}]"
        needed = ", ".join(more) if more else "the items suffice"
        yield f"For 80 % SHIP at {exam.churn * 100:g} % churn: {needed} ({simulated})."


def _impassable(power: ExamPower) -> Iterator[str]:
    for one in power.impassable:
        yield f"[red]{escape(one.name)} cannot pass unless it gains:[/] {one.impassable}."
    if power.undecidable:
        yield f"[red]This exam can never end in SHIP:[/] {power.undecidable}."
