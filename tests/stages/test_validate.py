import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import stages.validate
from lmadapt.core.errors import UserError
from lmadapt.core.recipes import read_recipe
from lmadapt.core.sections import check_section
from lmadapt.validation.expectations import make_suites
from lmadapt.verdict.exam_power import ExamSettings
from stages.validate import ValidateParams, validate
from tests.project import dvc
from tests.raw_tables import Records, curate_records, judgeable_records, write_curated

PROJECT = Path(__file__).parents[2]
SETTINGS = {
    "min_corpus_documents": 10,
    "min_instructions": 10,
    "min_domain_items": 10,
    "min_general_items": 10,
    "min_items_per_category": 10,
    "min_general_categories": 1,
    "max_document_tokens": 1000,
    "min_supervised_fraction": 0.1,
    "max_failing_fraction": 0.0,
    "near_duplicate_jaccard": 0.8,
    "decontaminate_ngram_words": 13,
    "min_replay_text_fraction": 0.05,
    "min_replay_instructions_fraction": 0.05,
    "max_drift": 0.5,
    "languages": [],
    "min_language_confidence": 0.65,
    "personal_data": ["emails"],
}


def test_the_demo_has_every_setting() -> None:
    demo = read_recipe("demo-cpu", PROJECT / "recipes")
    assert set(check_section(ValidateParams, "validate", demo, "demo-cpu").model_dump()) == set(
        SETTINGS
    )


@pytest.fixture
def tables() -> Records:
    return curate_records(judgeable_records()).tables


MARGINS = {"margin": 0.02, "category_margin": 0.05, "significance": 0.05, "alpha_scale": 1.0}


def run(tables: Records, folder: Path, model: Path, **settings: Any) -> dict[str, Any]:
    curated = write_curated(tables, folder / "curated")
    params = ValidateParams(**SETTINGS | settings)
    own, baseline = folder / "expectations.yaml", folder / "baseline.json"
    for file in (own, baseline):
        if not file.exists():
            file.write_text("{}")
    validate(
        params,
        ExamSettings.model_validate(MARGINS),
        curated=curated,
        model=model,
        own=own,
        baseline=baseline,
        data_docs=folder / "data_docs",
        exam=folder / "metrics" / "exam.json",
        metrics=folder / "metrics" / "validate.json",
    )
    report: dict[str, Any] = json.loads((folder / "metrics" / "validate.json").read_text())
    return report


def test_sound_data_passes_and_is_reported(
    tables: Records, tiny_model: Path, tmp_path: Path
) -> None:
    report = run(tables, tmp_path, tiny_model)
    assert report["warnings"] == 0
    assert report["totals"]["corpus_rows"] == len(tables["corpus"])
    assert report["expectations"]["corpus.leak"] == {
        "success": True,
        "severity": "error",
        "max_failing_fraction": 0.0,
        "rows": len(tables["corpus"]),
        "failing": 0,
    }
    assert (tmp_path / "data_docs" / "index.html").is_file()


def test_a_failure_names_expectation_count_rows_and_data_docs_and_leaves_no_metrics(
    tables: Records, tiny_model: Path, tmp_path: Path
) -> None:
    run(tables, tmp_path, tiny_model)
    for row in tables["corpus"][:5]:
        row["text"] = " "
    with pytest.raises(UserError) as caught:
        run(tables, tmp_path, tiny_model)
    message = str(caught.value)
    assert (
        f"corpus.characters: 5 of {len(tables['corpus'])} rows fail; expected: a text is not empty"
        in message
    )
    assert message.count("tests at corpus/") == 3
    assert message.endswith(f"See {tmp_path / 'data_docs' / 'index.html'}")
    assert (
        "Failed"
        in next((tmp_path / "data_docs" / "validations" / "corpus").rglob("*.html")).read_text()
    )
    assert not (tmp_path / "metrics" / "validate.json").exists(), "training depends on it"


def test_missing_replay_is_a_warning(
    tables: Records, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(tables | {"replay_text": []}, tmp_path, tiny_model)
    assert report["warnings"] == 1
    assert "warning: totals.replay_text_fraction: " in capsys.readouterr().err


def test_drift_from_the_baseline_is_a_warning_that_names_the_table(
    tables: Records, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tables, tmp_path, tiny_model)
    shutil.copy(tmp_path / "metrics" / "validate.json", tmp_path / "baseline.json")
    assert run(tables, tmp_path, tiny_model)["warnings"] == 0
    report = run(tables | {"corpus": tables["corpus"][:12]}, tmp_path, tiny_model)
    assert not report["expectations"]["drift.rows"]["success"]
    printed = capsys.readouterr().err
    assert "warning: drift.rows: 1 of 5 rows fail" in printed
    assert "corpus.parquet  corpus (-0.5" in printed


def test_an_expectation_of_the_project_stops_the_pipeline(
    tables: Records, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "expectations.yaml").write_text(
        "corpus.sources: {type: expect_column_values_to_be_in_set, "
        "arguments: {column: source, value_set: [wiki]}}"
    )
    with pytest.raises(
        UserError, match=r"1 expectations fail:\n- corpus\.sources: 27 of 27 rows fail"
    ):
        run(tables, tmp_path, tiny_model)


def test_an_expectation_that_cannot_be_checked_stops_the_pipeline_whatever_its_severity(
    tables: Records, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_broken_one(*args: Any, **options: Any) -> Any:
        suites = make_suites(*args, **options)
        broken = next(
            e for e in suites["totals"] if e.meta["name"] == "totals.replay_text_fraction"
        )
        broken.column = "absent"
        return suites

    monkeypatch.setattr(stages.validate, "make_suites", with_a_broken_one)
    with pytest.raises(
        UserError,
        match=r"1 expectations fail:\n- totals.replay_text_fraction: could not be checked: ",
    ):
        run(tables, tmp_path, tiny_model)


def test_data_docs_of_a_failed_run_stay_readable_under_dvc(
    tables: Records, tiny_model: Path, tmp_path: Path
) -> None:
    write_curated(tables, tmp_path / "data" / "curated")
    shutil.copytree(tiny_model, tmp_path / "models" / "base")
    params = {"validate": SETTINGS | {"min_instructions": 1000}, "evaluate": MARGINS}
    YAML().dump(params, tmp_path / "params.yaml")
    graph = YAML().load((PROJECT / "dvc.yaml").read_text())["stages"]["validate"]
    graph["deps"] = ["data/curated", "models/base"]
    for name in ("expectations.yaml", "baseline.json"):
        shutil.copy(PROJECT / name, tmp_path / name)
    YAML().dump({"stages": {"validate": graph}}, tmp_path / "dvc.yaml")
    assert dvc(tmp_path, "init", "--no-scm", "--quiet").returncode == 0
    failed = dvc(tmp_path, "repro", PYTHONPATH=str(PROJECT))
    assert failed.returncode != 0
    assert "totals.instructions_rows: 1 of 1 rows fail" in failed.stdout
    assert (tmp_path / "reports" / "data_docs" / "index.html").is_file()
    (page,) = (tmp_path / "reports" / "data_docs" / "validations" / "totals").rglob("*.html")
    assert "validate.min_instructions" in page.read_text(encoding="utf-8")
    assert not (tmp_path / "metrics" / "validate.json").exists()
