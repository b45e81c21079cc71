"""`lmadapt exam`: fixing an exam, choosing the anchor, reading the ledger."""

import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from typer.testing import CliRunner

from lmadapt.cli.app import app
from lmadapt.core.recipes import use_recipe
from lmadapt.core.tables import ITEM, write_table
from lmadapt.evaluation.exam_identity import exam_sha256
from lmadapt.registry.anchor import anchor_of
from lmadapt.registry.fixed_exam import fixed_exam
from lmadapt.registry.promotion import promote
from tests.adapted import EXAM, ROOT
from tests.planted import make_items
from tests.registry.registered import client, empty_registry, make_version

__all__ = ["client", "empty_registry"]  # fixtures


@pytest.fixture
def project(tmp_path: Path, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copy2(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    use_recipe("demo-cpu", ROOT / "recipes", tmp_path / "params.yaml")
    (tmp_path / "data/curated").mkdir(parents=True)
    write_table(make_items(), ITEM, tmp_path / "data/curated/items.parquet")
    return tmp_path


def lmadapt_exam(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["exam", *arguments])


@pytest.mark.parametrize("command", ["fix", "anchor", "ledger"])
def test_help_teaches_with_an_example(command: str) -> None:
    shown = lmadapt_exam(command, "--help")
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert "Exit code" in shown.output


def test_fix_writes_the_exam_and_the_margins_of_params_before_any_version(
    project: Path, client: mlflow.MlflowClient
) -> None:
    done = lmadapt_exam("fix", "tiny")
    assert done.exit_code == 0, done.output
    fixed = fixed_exam(client, "tiny")
    assert fixed is not None
    assert fixed.exam_sha256 == exam_sha256(make_items())
    assert fixed.margins == {
        "bits_per_byte_margin": 0.05,
        "category_margin": 0.05,
        "kl_margin": 1.0,
        "margin": 0.02,
        "min_domain_gain": 0.0,
        "significance": 0.05,
    }
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("category_margin: 0.05", "category_margin: 0.1"))
    refused = lmadapt_exam("fix", "tiny")
    assert refused.exit_code == 1
    assert "category_margin 0.1 instead of 0.05" in refused.output
    assert lmadapt_exam("fix", "tiny", "--reason", "we measured the churn").exit_code == 0


def test_anchor_and_ledger_are_shown(project: Path, client: mlflow.MlflowClient) -> None:
    tags = {"exam_sha256": "e" * 64, "exam_level": "0.05"}
    for number in (1, 2):
        wrong = 30 - 10 * number
        version = make_version(
            client, project, number, tags=tags, lineage={"exam": EXAM}, domain_wrong=wrong
        )
        promote(client, version)
    assert lmadapt_exam("anchor", "tiny/2").exit_code == 1
    assert lmadapt_exam("anchor", "tiny/2", "--reason", "a new base").exit_code == 0
    assert anchor_of(client, "tiny").version == version.version  # type: ignore[union-attr]
    shown = lmadapt_exam("ledger")
    assert "eeeeeeeeeeeeeeee" in shown.output
    assert "at most 10 %" in shown.output
