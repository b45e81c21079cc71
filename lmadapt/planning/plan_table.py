"""A plan as `lmadapt plan` prints it."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table

from lmadapt.planning.memory_model import PARTS, total
from lmadapt.planning.plan import StagePlan

UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def render_plan(plans: Iterable[StagePlan]) -> Iterator[Any]:
    """What to print: for each stage a table, its verdict, and what to change if it does not fit."""
    for plan in plans:
        yield _memory_table(plan)
        yield _micro_batch(plan)
        low, expected, high = (_duration(seconds) for seconds in plan.seconds)
        yield f"time: about {expected} ({low} to {high}): {plan.rate}"
        yield f"[bold]{plan.verdict}[/]" + (": change, in this order" if plan.remedies else "")
        for number, (text, size) in enumerate(plan.remedies, 1):
            yield f"  {number}. {text}: high {size / 1e9:.1f} GB"
        yield ""


def _memory_table(plan: StagePlan) -> Table:
    device = plan.device
    devices = device.name
    if device.cuda:
        devices = f"{device.count} x {device.name.removeprefix(f'{device.count}x')}"
    table = Table(
        title=f"{plan.stage} on {devices}, {device.memory / 1e9:.1f} GB usable each",
        title_justify="left",
    )
    table.add_column("memory, GB")
    for heading in ("low", "expected", "high"):
        table.add_column(heading, justify="right")
    for name, values in [*plan.parts.items(), ("total", total(plan.parts))]:
        cells = [f"{value / 1e9:.2f}" for value in values]
        table.add_row(name, *cells, end_section=name == PARTS[-1])
    return table


def _micro_batch(plan: StagePlan) -> str:
    setting = plan.setting
    gpus = f" on {plan.device.count} GPUs" if plan.device.count > 1 else ""
    return (
        f"micro-batch {setting.rows} x {setting.row_tokens} tokens{gpus}, "
        f"accumulation {plan.accumulation}, "
        f"activation checkpointing {'on' if setting.checkpointing else 'off'}; "
        f"{plan.tokens:,} tokens, about {plan.steps:,} steps"
    )


def _duration(seconds: float) -> str:
    for size, unit in UNITS:
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
