"""What `validate` says of the exam, beside the data."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.tables import ITEM, write_table
from lmadapt.validation.data_docs import ExpectationResult, run_suites
from lmadapt.validation.expectations import exam_expectations
from lmadapt.verdict.exam_power import ExamSettings
from stages.validate import _exam_power, _exam_problems
from tests.planning.test_exam_plan import rows

SETTINGS = ExamSettings(margin=0.02, category_margin=0.05, significance=0.05, alpha_scale=1.0)


def check(items: list[dict[str, Any]], folder: Path) -> dict[str, ExpectationResult]:
    write_table(items, ITEM, folder / "items.parquet")
    problems = _exam_problems(_exam_power(folder, SETTINGS))
    results = run_suites({"exam": exam_expectations()}, {"exam": problems}, None)
    return {one.name.removeprefix("exam."): one for one in results}


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.validate.DRAWS", 30)


def test_an_exam_of_enough_items_passes(tmp_path: Path) -> None:
    assert all(one.success for one in check(rows({"domain": 500, "sums": 1500}), tmp_path).values())


def test_too_few_items_are_a_warning_with_numbers_and_names(tmp_path: Path) -> None:
    found = check(rows({"domain": 60, "capitals": 40, "sums": 60}), tmp_path)
    assert found["undecidable"].success, "a model that gains enough still gets SHIP"
    assert not found["unlikely"].success
    assert "P(SHIP) 0." in str(found["unlikely"])
    assert "80 % need about" in str(found["unlikely"])
    assert "capitals (40 items in 40 clusters cannot show" in str(found["impassable"])
    assert found["impassable"].failing == 2, "general ability, and capitals"
    assert not any(one.stops for one in found.values())


def test_an_exam_that_can_never_ship_stops_the_pipeline(tmp_path: Path) -> None:
    items = rows({"domain": 60, "capitals": 60})
    for item in items[60:117]:
        item["cluster"] = "France"
    found = check(items, tmp_path)
    assert found["undecidable"].stops
    assert "exam.undecidable: {severity: warning}" in str(found["undecidable"])
    assert "not even a model with every answer right gets SHIP" in str(found["undecidable"])


def test_items_that_the_verdict_refuses_stop_the_pipeline(tmp_path: Path) -> None:
    found = check(rows({"domain": 60, "capitals": 20}), tmp_path)
    assert found["undecidable"].stops
    assert "'capitals' has 20 items" in str(found["undecidable"])


def test_the_figures_are_a_json_object_that_names_every_question(tmp_path: Path) -> None:
    write_table(rows({"domain": 60, "capitals": 60}), ITEM, tmp_path / "items.parquet")
    power = _exam_power(tmp_path, SETTINGS)
    assert not isinstance(power, str)
    names = [one["name"] for one in json.loads(power.model_dump_json())["questions"]]
    assert names == ["domain", "general ability", "capitals"]
