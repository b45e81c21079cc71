from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.report.charts import (
    axis,
    curve_chart,
    forest_chart,
    frontier_chart,
    read_funnel,
    read_loss_curves,
    waterfall_chart,
)


@pytest.mark.parametrize(
    "values", [[0.0, 0.0], [3.0], [-0.021, 0.004], [1e-9, 2e-9], [-5e4, 7e5], [0.1, 0.3]]
)
def test_an_axis_covers_its_values_with_a_few_round_ticks(values: list[float]) -> None:
    result = axis(values)
    assert result.low <= min(values) <= max(values) <= result.high
    assert 2 <= len(result.ticks) <= 8
    assert (result.percent(result.low), result.percent(result.high)) == (0.0, 100.0)


def test_intervals_and_margins_fit_on_the_axis_of_a_forest_plot() -> None:
    rows = [
        {"difference": -0.01, "interval": (-0.02, 0.0), "margin": 0.05},
        {"difference": 0.02, "interval": (0, 0.03)},
    ]
    chart = forest_chart(rows)
    general, domain = chart["rows"]
    assert (
        0 <= general["margin_x"] < general["low"] < general["x"] < general["high"] == chart["zero"]
    )
    assert chart["zero"] == domain["low"] < domain["x"] < domain["high"] <= 100
    assert "margin_x" not in domain
    assert [tick["label"] for tick in chart["ticks"]] == [
        "\N{MINUS SIGN}6",
        "\N{MINUS SIGN}4",
        "\N{MINUS SIGN}2",
        "0",
        "2",
        "4",
    ]


def test_the_bars_of_a_waterfall_join_and_end_at_their_sum() -> None:
    steps = [
        ("pre-training", {"difference": -0.04, "interval": [-0.05, -0.03]}),
        ("quantisation", {"difference": -0.01, "interval": [-0.03, 0.01]}),
        ("fine-tuning", {"difference": 0.15, "interval": [0.13, 0.17]}),
    ]
    chart = waterfall_chart(
        steps
    )  # ends at -4, -5 and 10 points, on an axis from -10 to 15: 4 % a point
    assert chart["zero"] == 40
    assert [(row["label"], row["left"], row["width"]) for row in chart["rows"]] == [
        ("pre-training", 24, 16),
        ("quantisation", 20, 4),
        ("fine-tuning", 20, 60),
        ("in all", 40, 40),
    ]
    assert [(row["low"], row["high"]) for row in chart["rows"][:3]] == [
        (20, 28),
        (12, 28),
        (72, 88),
    ]
    assert chart["rows"][3]["change"]["difference"] == pytest.approx(0.10)
    assert "low" not in chart["rows"][3]


def test_the_frontier_rises_with_the_gain_and_runs_by_scale() -> None:
    def row(scale: float, general: float, domain: float) -> dict[str, Any]:
        changes = {"general": general, "domain": domain}
        return {"alpha_scale": scale} | {
            name: {"difference": value, "interval": [value - 0.01, value + 0.01]}
            for name, value in changes.items()
        }

    chart = frontier_chart([row(1.0, -0.03, 0.08), row(0.5, -0.01, 0.05)], margin=0.02)
    half, whole = chart["points"]
    assert (half["alpha_scale"], whole["alpha_scale"]) == (0.5, 1.0)
    assert whole["left"] < whole["x"] < chart["margin_x"] < half["x"] < half["right"]
    assert 0 <= whole["top"] < whole["y"] < half["y"] < half["bottom"] <= 100  # from the top
    assert chart["path"] == f"{half['x']},{half['y']} {whole['x']},{whole['y']}"


def test_curves_are_found_in_any_folder_below(tmp_path: Path) -> None:
    (tmp_path / "metrics" / "train").mkdir(parents=True)
    (tmp_path / "metrics" / "train" / "loss.tsv").write_text(
        "timestamp\tstep\tloss\n0\t1\t3.5\n1\t2\t\n2\t3\t2.5\n"
    )
    (tmp_path / "metrics" / "train" / "grad_norm.tsv").write_text("step\tgrad_norm\n1\t0.5\n")
    (tmp_path / "empty.tsv").write_text("")
    curves = read_loss_curves(tmp_path)
    assert curves == {"train loss": [(1.0, 3.5), (3.0, 2.5)]}
    assert curve_chart(curves)["curves"][0]["points"].count(",") == 2
    assert read_loss_curves(tmp_path / "missing") == {}


def test_a_funnel_of_other_columns_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "funnel.csv"
    file.write_text("stage,role,documents\nraw,corpus,10\nkept,corpus,5\n")
    assert [step["percent"] for step in read_funnel(file)["corpus"]] == [100.0, 50.0]
    file.write_text("stage,documents\nraw,10\n")
    with pytest.raises(
        UserError, match=r"funnel\.csv: expected the columns stage, role, documents"
    ):
        read_funnel(file)
