from pathlib import Path

import pytest

from lmadapt.charts import axis, curve_chart, interval_chart, read_funnel, read_loss_curves
from lmadapt.errors import UserError


@pytest.mark.parametrize("values", [[0.0, 0.0], [3.0], [-0.021, 0.004], [1e-9, 2e-9], [-5e4, 7e5], [0.1, 0.3]])
def test_an_axis_covers_its_values_with_a_few_round_ticks(values: list[float]) -> None:
    result = axis(values)
    assert result.low <= min(values) <= max(values) <= result.high
    assert 2 <= len(result.ticks) <= 8
    assert (result.percent(result.low), result.percent(result.high)) == (0.0, 100.0)


def test_intervals_and_margins_fit_on_the_axis() -> None:
    mark = {"kind": "worse", "value": -0.01, "interval": (-0.02, 0.0), "margin": 0.05}
    chart = interval_chart([("a", [mark]), ("b", [{"kind": "x", "value": None, "interval": None}])], scale=100)
    (row,) = chart["rows"]
    placed = row["marks"][0]
    assert 0 <= placed["margin_x"] < placed["low"] < placed["x"] < placed["high"] <= chart["zero"]


def test_a_chart_of_nothing_is_empty() -> None:
    assert interval_chart([("a", [])]) == {"rows": [], "ticks": [], "zero": None}


def test_curves_are_found_in_any_folder_below(tmp_path: Path) -> None:
    (tmp_path / "metrics" / "train").mkdir(parents=True)
    (tmp_path / "metrics" / "train" / "loss.tsv").write_text("timestamp\tstep\tloss\n0\t1\t3.5\n1\t2\t\n2\t3\t2.5\n")
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
    with pytest.raises(UserError, match=r"funnel\.csv: expected the columns stage, role, documents"):
        read_funnel(file)
