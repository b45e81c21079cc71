from typing import Any

import pytest

from lmadapt.report.charts import (
    Tick,
    axis,
    curve_chart,
    forest_chart,
    frontier_chart,
    waterfall_chart,
)
from lmadapt.verdict.figures import Change, MarginTest, ScaleChange

COUNTS = {"n": 100, "clusters": 100, "lost": 1, "gained": 1}
P_VALUES = {"mcnemar_p": 1.0, "better_p": 0.5, "worse_p": 0.5}
MARGIN_TEST = {
    "worse_p_adjusted": 1.0,
    "noninferiority_p": 0.1,
    "minimum_detectable_effect": 0.02,
    "items_needed": 500,
    "measurable": True,
}


def change(difference: float, low: float, high: float) -> Change:
    return Change(difference=difference, interval=(low, high), **COUNTS, **P_VALUES)


def margin_test(difference: float, low: float, high: float, margin: float) -> MarginTest:
    known: dict[str, Any] = {**COUNTS, **P_VALUES, **MARGIN_TEST}
    return MarginTest(difference=difference, interval=(low, high), margin=margin, **known)


@pytest.mark.parametrize(
    "values", [[0.0, 0.0], [3.0], [-0.021, 0.004], [1e-9, 2e-9], [-5e4, 7e5], [0.1, 0.3]]
)
def test_an_axis_covers_its_values_with_a_few_round_ticks(values: list[float]) -> None:
    result = axis(values)
    assert result.low <= min(values) <= max(values) <= result.high
    assert 2 <= len(result.ticks) <= 8
    assert (result.percent(result.low), result.percent(result.high)) == (0.0, 100.0)


def test_intervals_and_margins_fit_on_the_axis_of_a_forest_chart() -> None:
    chart = forest_chart([margin_test(-0.01, -0.02, 0.0, margin=0.05), change(0.02, 0.0, 0.03)])
    general, domain = chart.marks
    assert general.margin_x is not None
    assert 0 <= general.margin_x < general.low < general.x < general.high == chart.zero
    assert chart.zero == domain.low < domain.x < domain.high <= 100
    assert domain.margin_x is None
    labels = [tick.label.replace("\N{MINUS SIGN}", "-") for tick in chart.ticks]
    assert labels == ["-6", "-4", "-2", "0", "2", "4"]


def test_the_bars_of_a_waterfall_join_and_end_at_their_sum() -> None:
    steps = [
        ("pre-training", change(-0.04, -0.05, -0.03)),
        ("quantisation", change(-0.01, -0.03, 0.01)),
        ("fine-tuning", change(0.15, 0.13, 0.17)),
    ]
    # The bars end at -4, -5 and 10 points, on an axis from -10 to 15: 4 % a point.
    chart = waterfall_chart(steps)
    assert chart.zero == 40
    assert [(bar.label, bar.left, bar.width) for bar in chart.bars] == [
        ("pre-training", 24, 16),
        ("quantisation", 20, 4),
        ("fine-tuning", 20, 60),
        ("total", 40, 40),
    ]
    assert [(bar.low, bar.high) for bar in chart.bars] == [
        (20, 28),
        (12, 28),
        (72, 88),
        (None, None),
    ]
    assert chart.bars[3].difference == pytest.approx(0.10)


def test_the_frontier_rises_with_the_gain_and_is_ordered_by_scale() -> None:
    def row(scale: float, general: float, domain: float) -> ScaleChange:
        return ScaleChange(
            alpha_scale=scale,
            general=change(general, general - 0.01, general + 0.01),
            domain=change(domain, domain - 0.01, domain + 0.01),
        )

    chart = frontier_chart([row(1.0, -0.03, 0.08), row(0.5, -0.01, 0.05)], margin=0.02)
    half, whole = chart.points
    assert (half.alpha_scale, whole.alpha_scale) == (0.5, 1.0)
    assert whole.left < whole.x < chart.margin_x < half.x < half.right
    assert 0 <= whole.top < whole.y < half.y < half.bottom <= 100  # from the top
    assert chart.path == f"{half.x},{half.y} {whole.x},{whole.y}"


def test_curves_are_drawn_on_common_axes() -> None:
    chart = curve_chart({"loss": [(1.0, 3.0), (3.0, 2.0)], "replay": [(1.0, 2.5)]})
    assert [curve.name for curve in chart.curves] == ["loss", "replay"]
    assert chart.curves[0].points == "0.0,0.0 100.0,100.0"
    assert chart.y_ticks[0] == Tick(100.0, "2")
