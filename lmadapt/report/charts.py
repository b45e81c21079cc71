"""Positions for hand-drawn SVG charts: axes with round ticks, intervals and curves, all in percent of the drawing."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError

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
    step = next(
        power * multiple for multiple in (1, 2, 5, 10) if power * multiple * ticks >= span * 0.999
    )
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(first * step, last * step, [round(n * step, 10) for n in range(first, last + 1)])


def forest_chart(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows with a CHANGE's `difference`, `interval` and perhaps `margin` (drawn at -margin), shares of 1; in points.

    Keys of a row are kept; `x`, `low`, `high` and `margin_x` are added, in percent of the axis.
    """
    across = axis(100 * x for row in rows for x in (0.0, *row["interval"], -row.get("margin", 0.0)))

    def place(row: dict[str, Any]) -> dict[str, Any]:
        low, x, high = (
            across.percent(100 * x)
            for x in (row["interval"][0], row["difference"], row["interval"][1])
        )
        margin = {"margin_x": across.percent(-100 * row["margin"])} if "margin" in row else {}
        return row | {"low": low, "x": x, "high": high} | margin

    return {"rows": [place(row) for row in rows], **_ticks(across)}


def waterfall_chart(steps: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Named CHANGEs, each beginning where the one before ended, and a last row for their sum; in points.

    A row has `left`, `width` of its bar and `low`, `high` of the interval of its end, in percent of the axis.
    """
    ends = [0.0, *accumulate(float(change["difference"]) for _, change in steps)]
    bars: list[dict[str, Any]] = [
        {
            "label": name,
            "change": change,
            "reach": (start, end, *(start + bound for bound in change["interval"])),
        }
        for (name, change), start, end in zip(steps, ends, ends[1:], strict=False)
    ]
    bars.append({"label": "in all", "change": {"difference": ends[-1]}, "reach": (0.0, ends[-1])})
    across = axis(100 * x for bar in bars for x in bar["reach"])
    rows = []
    for bar in bars:
        start, end, *interval = (across.percent(100 * x) for x in bar.pop("reach"))
        bounds = dict(zip(("low", "high"), interval, strict=False))
        rows.append(bar | {"left": min(start, end), "width": round(abs(end - start), 2)} | bounds)
    return {"rows": rows, **_ticks(across)}


def frontier_chart(rows: Sequence[Mapping[str, Any]], margin: float) -> dict[str, Any]:
    """The dial: what each adapter scale keeps (`general`, across) and gains (`domain`, up), in points; y from the top.

    `rows` have `alpha_scale` and the CHANGEs `general` and `domain`; the line of the margin is at -`margin`.
    """
    across = axis(100 * x for row in rows for x in (0.0, -margin, *row["general"]["interval"]))
    up = axis(100 * y for row in rows for y in (0.0, *row["domain"]["interval"]))
    points = []
    for row in sorted(rows, key=lambda row: float(row["alpha_scale"])):
        left, x, right = (across.percent(100 * value) for value in _reach(row["general"]))
        bottom, y, top = (
            round(100 - up.percent(100 * value), 2) for value in _reach(row["domain"])
        )
        place = {"x": x, "left": left, "right": right, "y": y, "top": top, "bottom": bottom}
        points.append({"alpha_scale": row["alpha_scale"], **place})
    return {
        "points": points,
        "path": " ".join(f"{point['x']},{point['y']}" for point in points),
        "margin_x": across.percent(-100 * margin),
        **_plane_ticks(across, up),
    }


def curve_chart(curves: dict[str, list[Point]]) -> dict[str, Any]:
    """Named curves as SVG point lists on a square of 100 x 100, with the ticks of both axes."""
    points = [point for curve in curves.values() for point in curve]
    across, up = axis(x for x, _ in points), axis(y for _, y in points)
    return {
        "curves": [
            {
                "name": name,
                "points": " ".join(
                    f"{across.percent(x)},{round(100 - up.percent(y), 2)}" for x, y in curve
                ),
            }
            for name, curve in curves.items()
        ],
        **_plane_ticks(across, up),
    }


def _reach(change: Mapping[str, Any]) -> tuple[float, float, float]:
    low, high = change["interval"]
    return low, change["difference"], high


def _ticks(across: Axis) -> dict[str, Any]:
    ticks = [
        {"at": across.percent(tick), "label": f"{tick:g}".replace("-", "\N{MINUS SIGN}")}
        for tick in across.ticks
    ]
    return {"ticks": ticks, "zero": across.percent(0.0)}


def _plane_ticks(across: Axis, up: Axis) -> dict[str, Any]:
    from_top = [tick | {"at": round(100 - tick["at"], 2)} for tick in _ticks(up)["ticks"]]
    return {"x_ticks": _ticks(across)["ticks"], "y_ticks": from_top}


def read_loss_curves(folder: Path) -> dict[str, list[Point]]:
    """Every loss in the TSV files below a folder, by name, over their column `step`; what is no number is skipped."""
    curves = {}
    for file in sorted(folder.rglob("*.tsv")):
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        for name in [
            column for column in (rows[0] if rows else {}) if "loss" in str(column).lower()
        ]:
            points = [(_number(row.get("step")), _number(row[name])) for row in rows]
            if finite := [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]:
                place = file.relative_to(folder).with_suffix("").parts
                curves[" ".join(part for part in place if part not in ("plots", "metrics"))] = (
                    finite
                )
    return curves


def read_funnel(file: Path) -> dict[str, list[dict[str, Any]]]:
    """plots/funnel.csv (stage, role, documents) by role: how many documents each stage left, and their share.

    Raises UserError when a column is missing or a count is no number.
    """
    roles: dict[str, list[dict[str, Any]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                roles.setdefault(row["role"], []).append(
                    {"stage": row["stage"], "documents": int(row["documents"])}
                )
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
