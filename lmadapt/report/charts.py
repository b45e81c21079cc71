"""Positions for SVG charts: axes with round ticks, intervals, bars and curves.

All positions are in percent of the drawing; those down the page start at its top.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

from lmadapt.verdict.figures import Change, MarginTest, ScaleChange

Point = tuple[float, float]
MINUS = "\N{MINUS SIGN}"


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

    def percent_from_top(self, value: float) -> float:
        """Where `value` lies on an axis that runs upwards, in percent from its top."""
        return round(100 - self.percent(value), 2)


@dataclass(frozen=True)
class Tick:
    """A tick of an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class ForestMark:
    """An interval, its middle, and the margin, which is None when there is none."""

    low: float
    x: float
    high: float
    margin_x: float | None


@dataclass(frozen=True)
class ForestChart:
    """Changes below one another on one axis of points."""

    marks: list[ForestMark]
    ticks: list[Tick]
    zero: float


@dataclass(frozen=True)
class Bar:
    """One step of a waterfall, or, without `change`, low and high, the sum of all."""

    label: str
    difference: float  # share of 1
    change: Change | None
    left: float
    width: float
    low: float | None  # the interval around the end of the bar
    high: float | None


@dataclass(frozen=True)
class WaterfallChart:
    """Steps on one axis of points; each bar starts where the one before ended."""

    bars: list[Bar]
    ticks: list[Tick]
    zero: float


@dataclass(frozen=True)
class FrontierPoint:
    """One adapter scale: `x`, its interval left to right; `y`, its interval top to bottom."""

    alpha_scale: float
    x: float
    left: float
    right: float
    y: float
    top: float
    bottom: float


@dataclass(frozen=True)
class FrontierChart:
    """General change across, domain change up, in points, by adapter scale."""

    points: list[FrontierPoint]
    path: str
    margin_x: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]


@dataclass(frozen=True)
class Curve:
    """A curve as the `points` of an SVG polyline, on a square of 100 x 100."""

    name: str
    points: str


@dataclass(frozen=True)
class CurveChart:
    """Curves on common axes."""

    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def axis(values: Iterable[float], *, ticks: int = 5) -> Axis:
    """An axis that covers `values`, with about that many ticks.

    Ticks are multiples of 1, 2 or 5 times a power of ten.
    """
    values = list(values)
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / ticks))
    steps = (power * multiple for multiple in (1, 2, 5, 10))
    step = next(step for step in steps if step * ticks >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(first * step, last * step, [round(n * step, 10) for n in range(first, last + 1)])


def forest_chart(changes: Sequence[Change]) -> ForestChart:
    """The marks of changes in accuracy, on an axis of points; the margin is drawn at -margin."""
    values = [0.0]
    for change in changes:
        values += change.interval
        values.append(-_margin(change))
    across = axis(100 * value for value in values)
    marks = [_forest_mark(across, change) for change in changes]
    return ForestChart(marks, _ticks(across), across.percent(0.0))


def _margin(change: Change) -> float:
    return change.margin if isinstance(change, MarginTest) else 0.0


def _forest_mark(across: Axis, change: Change) -> ForestMark:
    low, high = change.interval
    has_margin = isinstance(change, MarginTest)
    return ForestMark(
        low=across.percent(100 * low),
        x=across.percent(100 * change.difference),
        high=across.percent(100 * high),
        margin_x=across.percent(-100 * _margin(change)) if has_margin else None,
    )


def waterfall_chart(steps: Sequence[tuple[str, Change]]) -> WaterfallChart:
    """Named changes, each starting where the one before ended, and a last bar for their sum."""
    ends = [0.0, *accumulate(change.difference for _, change in steps)]
    values = [*ends]
    for (_, change), start in zip(steps, ends, strict=False):
        values += (start + bound for bound in change.interval)
    across = axis(100 * value for value in values)
    bars = [
        _bar(across, name, change, start, end)
        for (name, change), start, end in zip(steps, ends, ends[1:], strict=False)
    ]
    left, width = _extent(across, 0.0, ends[-1])
    bars.append(Bar("total", ends[-1], None, left, width, low=None, high=None))
    return WaterfallChart(bars, _ticks(across), across.percent(0.0))


def _bar(across: Axis, name: str, change: Change, start: float, end: float) -> Bar:
    left, width = _extent(across, start, end)
    low, high = (across.percent(100 * (start + bound)) for bound in change.interval)
    return Bar(name, change.difference, change, left, width, low, high)


def _extent(across: Axis, start: float, end: float) -> tuple[float, float]:
    """Left end and width of a bar between two shares of 1."""
    first, last = across.percent(100 * start), across.percent(100 * end)
    return min(first, last), round(abs(last - first), 2)


def frontier_chart(rows: Sequence[ScaleChange], margin: float) -> FrontierChart:
    """What each adapter scale keeps (`general`, across) and gains (`domain`, up), in points.

    The line of the margin is at -`margin`.
    """
    generals, domains = [0.0, -margin], [0.0]
    for row in rows:
        generals += row.general.interval
        domains += row.domain.interval
    across = axis(100 * value for value in generals)
    up = axis(100 * value for value in domains)
    ordered = sorted(rows, key=lambda row: row.alpha_scale)
    points = [_frontier_point(across, up, row) for row in ordered]
    return FrontierChart(
        points=points,
        path=" ".join(f"{point.x},{point.y}" for point in points),
        margin_x=across.percent(-100 * margin),
        x_ticks=_ticks(across),
        y_ticks=_ticks_from_top(up),
    )


def _frontier_point(across: Axis, up: Axis, row: ScaleChange) -> FrontierPoint:
    return FrontierPoint(
        alpha_scale=row.alpha_scale,
        x=across.percent(100 * row.general.difference),
        left=across.percent(100 * row.general.interval[0]),
        right=across.percent(100 * row.general.interval[1]),
        y=up.percent_from_top(100 * row.domain.difference),
        top=up.percent_from_top(100 * row.domain.interval[1]),
        bottom=up.percent_from_top(100 * row.domain.interval[0]),
    )


def curve_chart(curves: Mapping[str, Sequence[Point]]) -> CurveChart:
    """Named curves on common axes."""
    points = list(chain.from_iterable(curves.values()))
    across, up = axis(x for x, _ in points), axis(y for _, y in points)

    def draw(name: str, curve: Sequence[Point]) -> Curve:
        places = (f"{across.percent(x)},{up.percent_from_top(y)}" for x, y in curve)
        return Curve(name, " ".join(places))

    drawn = [draw(name, curve) for name, curve in curves.items()]
    return CurveChart(drawn, _ticks(across), _ticks_from_top(up))


def _ticks(across: Axis) -> list[Tick]:
    return [Tick(across.percent(tick), f"{tick:g}".replace("-", MINUS)) for tick in across.ticks]


def _ticks_from_top(up: Axis) -> list[Tick]:
    return [Tick(round(100 - tick.at, 2), tick.label) for tick in _ticks(up)]
