from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
from lmadapt.report.plot_files import read_funnel, read_loss_curves


def test_curves_are_found_in_any_folder_below(tmp_path: Path) -> None:
    folder = tmp_path / "metrics/train"
    folder.mkdir(parents=True)
    (folder / "loss.tsv").write_text("timestamp\tstep\tloss\n0\t1\t3.5\n1\t2\t\n2\t3\t2.5\n")
    (folder / "grad_norm.tsv").write_text("step\tgrad_norm\n1\t0.5\n")
    (tmp_path / "empty.tsv").write_text("")
    assert read_loss_curves(tmp_path) == {"train loss": [(1.0, 3.5), (3.0, 2.5)]}
    assert read_loss_curves(tmp_path / "missing") == {}


def test_a_funnel_counts_documents_by_role(tmp_path: Path) -> None:
    file = tmp_path / "funnel.csv"
    file.write_text("stage,role,documents\nraw,corpus,10\nkept,corpus,5\n")
    assert [step["percent"] for step in read_funnel(file)["corpus"]] == [100.0, 50.0]


def test_a_funnel_with_other_columns_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "funnel.csv"
    file.write_text("stage,documents\nraw,10\n")
    expected = r"funnel\.csv: expected the columns stage, role, documents"
    with pytest.raises(UserError, match=expected):
        read_funnel(file)
