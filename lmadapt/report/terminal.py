"""What a finished run shows: the three models side by side, the verdict, and where to look next."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from lmadapt.core.files import read_json
from lmadapt.provenance.lineage import read_evaluation

MODELS = ("base", "pretrained", "adapted")
COLOURS = {"SHIP": "green", "HOLD": "red", "INCONCLUSIVE": "yellow"}


def render_result(evaluation: Path, report: Path, registration: Path) -> Iterator[Table | str]:
    """What to print, in order; raises UserError when the pipeline has not come that far."""
    result = read_evaluation(evaluation)
    verdict = result["verdict"]
    version = read_json(registration)
    yield _table(result)
    colour = COLOURS.get(verdict["outcome"], "bold")
    yield f"Verdict: [{colour} bold]{verdict['outcome']}[/]. {escape(verdict['reason'])}"
    yield f"Report: {report}"
    aliases = ", ".join(f"models:/{version['model_name']}@{alias}" for alias in version["aliases"])
    yield f"Registry: {version['model_name']} version {version['version']} ({aliases})"


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="What was learnt, what was kept", title_justify="left")
    table.add_column("")
    for model in (*MODELS, "adapted - base"):
        table.add_column(model, justify="right")
    change = result["changes"]["adapted_vs_base"]
    for group in ("domain", "general"):
        figures = [result["models"][model][group] for model in MODELS]
        cells = [_cell(figure, "accuracy", ".1f", " %", 100) for figure in figures]
        difference = _cell(change[group], "difference", "+.1f", " points", 100)
        table.add_row(f"{group} accuracy, n = {figures[-1]['n']}", *cells, difference)
    for group in ("domain", "general"):
        cells = [
            _cell(result["models"][model]["bits_per_byte"][group], "value", ".3f")
            for model in MODELS
        ]
        difference = _cell(change["bits_per_byte"][group], "difference", "+.3f")
        table.add_row(f"{group} text, bits per byte", *cells, difference)
    return table


def _cell(figure: dict[str, Any], key: str, form: str, unit: str = "", scale: int = 1) -> str:
    if figure[key] is None:
        return "not measured"
    value, low, high = (
        format(scale * number, form) for number in (figure[key], *figure["interval"])
    )
    return f"{value}{unit} \\[{low}, {high}]"
