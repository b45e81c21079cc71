"""What a finished run shows: the three models side by side, the verdict, and where to look next."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from lmadapt.files import read_json
from lmadapt.lineage import read_evaluation

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
        cells = [_share(figure["accuracy"], figure["interval"]) for figure in figures]
        difference = _share(change[group]["difference"], change[group]["interval"], signed=True)
        table.add_row(f"{group} accuracy, n = {figures[-1]['n']}", *cells, difference)
    for group in ("domain", "general"):
        cells = [_bits(result["models"][model]["bits_per_byte"][group]) for model in MODELS]
        difference = _bits(change["bits_per_byte"][group], key="difference", form="+.3f")
        table.add_row(f"{group} text, bits per byte", *cells, difference)
    return table


def _bits(figure: dict[str, Any], *, key: str = "value", form: str = ".3f") -> str:
    if figure[key] is None:
        return "not measured"
    low, high = (format(bound, form) for bound in figure["interval"])
    return f"{figure[key]:{form}} \\[{low}, {high}]"


def _share(value: float, interval: list[float], *, signed: bool = False) -> str:
    form, unit = ("+.1f", "points") if signed else (".1f", "%")
    low, high = (format(100 * bound, form) for bound in interval)
    return f"{100 * value:{form}} {unit} \\[{low}, {high}]"
