"""Positions for hand-drawn SVG charts: axes with round ticks, intervals and curves, all in percent of the drawing."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmadapt.errors import UserError

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A linear scale from `low` to `high` with round ticks."""

    low: float
    high: float
    ticks: list[float]

    def percent(self, value: float) -> float:
        """Where `value` lies, in percent of the axis, cut off at its ends; two decimals."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)


def axis(values: Iterable[float], *, ticks: int = 5) -> Axis:
    """An axis that covers `values`, with about that many ticks at multiples of 1, 2 or 5 times a power of ten."""
    low, high = min(values := list(values)), max(values)
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / ticks))
    step = next(power * multiple for multiple in (1, 2, 5, 10) if power * multiple * ticks >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(first * step, last * step, [round(n * step, 10) for n in range(first, last + 1)])


def interval_chart(
    rows: Sequence[tuple[str, Sequence[dict[str, Any]]]], *, include: Sequence[float] = (), scale: float = 1.0
) -> dict[str, Any]:
    """A chart of labelled rows, each with marks `{"kind", "value", "interval", ...}`; values are times `scale`.

    Further keys of a mark are kept; `margin` among them is a line drawn at -margin. Marks without a value are
    left out; the axis covers margins and `include` too.
    """
    drawn = [(label, [mark for mark in marks if mark["value"] is not None]) for label, marks in rows]
    drawn = [(label, marks) for label, marks in drawn if marks]
    if not drawn:
        return {"rows": [], "ticks": [], "zero": None}
    marks = [mark for _, marks in drawn for mark in marks]
    reach = [x for mark in marks for x in (*mark["interval"], *([-mark["margin"]] if "margin" in mark else []))]
    across = axis(x * scale for x in (*reach, *include))

    def place(mark: dict[str, Any]) -> dict[str, Any]:
        low, high = (across.percent(x * scale) for x in mark["interval"])
        line = {"margin_x": across.percent(-mark["margin"] * scale)} if "margin" in mark else {}
        return mark | {"x": across.percent(mark["value"] * scale), "low": low, "high": high} | line

    return {
        "rows": [{"label": label, "marks": [place(mark) for mark in marks]} for label, marks in drawn],
        "ticks": [{"x": across.percent(tick), "label": f"{tick:g}"} for tick in across.ticks],
        "zero": across.percent(0.0) if across.low <= 0 <= across.high else None,
    }


def curve_chart(curves: dict[str, list[Point]]) -> dict[str, Any]:
    """Named curves as SVG point lists on a square of 100 x 100, with the ticks of both axes."""
    points = [point for curve in curves.values() for point in curve]
    across, up = axis(x for x, _ in points), axis(y for _, y in points)
    return {
        "curves": [
            {"name": name, "points": " ".join(f"{across.percent(x)},{round(100 - up.percent(y), 2)}" for x, y in curve)}
            for name, curve in curves.items()
        ],
        "x_ticks": [{"at": across.percent(tick), "label": f"{tick:g}"} for tick in across.ticks],
        "y_ticks": [{"at": round(100 - up.percent(tick), 2), "label": f"{tick:g}"} for tick in up.ticks],
    }


def read_loss_curves(folder: Path) -> dict[str, list[Point]]:
    """Every loss in the TSV files below a folder, by name, over their column `step`; what is no number is skipped."""
    curves = {}
    for file in sorted(folder.rglob("*.tsv")):
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        for name in [column for column in (rows[0] if rows else {}) if "loss" in str(column).lower()]:
            points = [(_number(row.get("step")), _number(row[name])) for row in rows]
            if finite := [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]:
                place = file.relative_to(folder).with_suffix("").parts
                curves[" ".join(part for part in place if part not in ("plots", "metrics"))] = finite
    return curves


def read_funnel(file: Path) -> dict[str, list[dict[str, Any]]]:
    """plots/funnel.csv (stage, role, documents) by role: how many documents each stage left, and their share.

    Raises UserError when a column is missing or a count is no number.
    """
    roles: dict[str, list[dict[str, Any]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                roles.setdefault(row["role"], []).append({"stage": row["stage"], "documents": int(row["documents"])})
    except (KeyError, ValueError, OSError) as error:
        raise UserError(f"{file}: expected the columns stage, role, documents: {error}") from None
    for steps in roles.values():
        most = max(step["documents"] for step in steps) or 1
        for step in steps:
            step["percent"] = round(100 * step["documents"] / most, 2)
    return roles


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
