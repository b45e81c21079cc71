import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from ruamel.yaml import YAML
from typer.testing import CliRunner

from lmadapt.cli.app import app
from lmadapt.core.errors import UserError
from lmadapt.core.sections import read_params
from lmadapt.core.tables import ITEM, write_table
from lmadapt.planning import doctor
from lmadapt.planning.exam_plan import (
    intraclass_correlation,
    items_of_project,
    items_of_tables,
    measured_correlation,
)
from lmadapt.planning.exam_table import render_exam
from lmadapt.verdict.exam_power import Assumed, ExamSettings, exam_power, plan_items

ROOT = Path(__file__).parents[2]
SETTINGS = ExamSettings(margin=0.02, category_margin=0.05, significance=0.05, alpha_scale=1.0)


def rows(counts: dict[str, int], cluster_size: int = 1) -> list[dict[str, Any]]:
    """Items by category; the category `domain` is the domain."""
    return [
        {
            "id": f"{category}/{i}",
            "group": "domain" if category == "domain" else "general",
            "category": category,
            "cluster": f"{category} {i // cluster_size}",
            "prompt": f"Which {category} is number {i}?",
            "choices": ["this", "that"],
            "answer": 0,
            "check": "",
            "severity": "",
            "source": "tests",
            "location": str(i),
        }
        for category, count in counts.items()
        for i in range(count)
    ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, in which the test runs."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_items(items: list[dict[str, Any]], file: str = "data/curated/items.parquet") -> None:
    write_table(items, ITEM, Path(file))


def plan(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["plan", "--exam", "--draws", "20", *arguments])


def test_curated_items_come_before_raw_ones(project: Path) -> None:
    assert items_of_tables(project) is None
    write_items(rows({"domain": 3}), "data/raw/evaluation.parquet")
    raw = items_of_tables(project)
    write_items(rows({"domain": 2}))
    curated = items_of_tables(project)
    assert raw
    assert curated
    assert (len(raw.rows), raw.origin) == (3, "data/raw/evaluation.parquet")
    assert (len(curated.rows), curated.origin) == (2, "data/curated/items.parquet")


def own_source(project: Path, items: list[dict[str, Any]]) -> None:
    """Let params.yaml name a file with these items as its only source of them."""
    (project / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    params = YAML().load((project / "params.yaml").read_text())
    params["fetch"]["sources"]["evaluation"] = [{"path": "items.jsonl"}]
    YAML().dump(params, project / "params.yaml")


def test_without_tables_the_sources_of_items_are_read(project: Path) -> None:
    own_source(project, rows({"domain": 3, "general": 2}))
    found = items_of_project(read_params(project / "params.yaml"), "params.yaml")
    assert found.origin == "fetch.sources.evaluation"
    assert [item["group"] for item in found.rows] == ["domain"] * 3 + ["general"] * 2


def test_without_tables_and_sources_it_says_what_is_missing(project: Path) -> None:
    own_source(project, [])
    (project / "items.jsonl").unlink()
    with pytest.raises(UserError) as caught:
        items_of_project(read_params(project / "params.yaml"), "params.yaml")
    assert "data/curated/items.parquet: no such file (`dvc repro curate` makes it)" in str(
        caught.value
    )
    assert "items.jsonl" in str(caught.value)


def test_the_command_shows_every_question_and_names_what_cannot_pass(project: Path) -> None:
    write_items(rows({"domain": 60, "capitals": 40, "sums [easy]": 60}))
    done = plan()
    assert done.exit_code == 0
    for name in ("verdict", "general ability", "capitals", "sums [easy]"):
        assert name in done.output
    assert "capitals cannot pass unless it gains: 40 items in 40 clusters" in done.output
    assert "For 80 % SHIP at 5 % churn: " in done.output
    assert "assumed; there is no reports/predictions.parquet to measure it on" in done.output
    assert "right or wrong" in done.output
    assert "…" not in done.output


def test_the_figures_are_printed_as_json(project: Path) -> None:
    write_items(rows({"domain": 60, "capitals": 60}))
    figures = json.loads(plan("--json", "--gain", "10").stdout)
    assert figures["gain"] == 0.1
    assert [one["name"] for one in figures["questions"]] == [
        "domain",
        "general ability",
        "capitals",
    ]
    assert [one["churn"] for one in figures["verdict"]] == [0.02, 0.05, 0.1]


def test_an_exam_that_can_never_ship_ends_the_command_with_1(project: Path) -> None:
    items = rows({"domain": 60, "capitals": 60})
    for item in items[60:117]:
        item["cluster"] = "France"
    write_items(items)
    done = plan()
    assert done.exit_code == 1
    assert "This exam can never end in SHIP" in done.output


def test_a_category_that_the_verdict_refuses_is_an_error(project: Path) -> None:
    write_items(rows({"domain": 60, "capitals": 20}))
    done = plan()
    assert done.exit_code == 1
    assert "'capitals' has 20 items; at least 30 are needed" in done.output


def test_doctor_says_in_one_line_whether_the_exam_can_decide(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DRAWS", 10)

    def look() -> tuple[str, str]:
        found = doctor._check("exam", doctor._exam, project)
        assert "\n" not in found.detail
        return found.status, found.detail

    assert look()[0] == "warning"
    write_items(rows({"domain": 60, "capitals": 40}))
    assert look()[1].startswith("too few items to pass unless they gain: general ability, capitals")
    write_items(rows({"domain": 60, "capitals": 140}))
    status, detail = look()
    assert status == "warning"
    assert detail.startswith("P(SHIP) 0.")
    write_items(rows({"domain": 500, "capitals": 1500}))
    assert look()[0] == "ok"
    items = rows({"domain": 60, "capitals": 60})
    for item in items[60:117]:
        item["cluster"] = "France"
    write_items(items)
    assert look()[0] == "failed"


def predictions(items: list[dict[str, Any]], before: np.ndarray, after: np.ndarray) -> Path:
    both = {"base": before, "adapted": after}
    table = [
        {"id": item["id"], "model": model, "score": float(score)}
        for model, scores in both.items()
        for item, score in zip(items, scores, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(table), Path("predictions.parquet"))
    return Path("predictions.parquet")


def test_the_correlation_is_measured_on_the_answers_of_the_last_evaluation(project: Path) -> None:
    items = rows({"domain": 400, "capitals": 400}, cluster_size=4)
    draw = np.random.default_rng(0)
    alone, together = draw.random(800), np.repeat(draw.random(200), 4)
    fate = np.where(draw.random(800) < 0.6**0.5, together, alone)
    before = (fate < 0.15).astype(float)
    after = ((fate >= 0.15) & (fate < 0.3)).astype(float)
    found, source = measured_correlation(predictions(items, before, after), items)
    assert found == pytest.approx(0.6, abs=0.12)
    assert source == "measured on predictions.parquet"


def test_the_correlation_is_assumed_where_too_little_changed(project: Path) -> None:
    items = rows({"domain": 40, "capitals": 40}, cluster_size=4)
    same = np.ones(80)
    found, source = measured_correlation(predictions(items, same, same), items)
    assert found == 0.1
    assert source.startswith("assumed; too few answers changed")
    other = rows({"other": 40}, cluster_size=4)
    assert measured_correlation(Path("predictions.parquet"), other)[0] == 0.1


def test_the_correlation_is_that_of_the_textbook() -> None:
    # Between mean square 8, within 0.5: (8 - 0.5) / (8 + 0.5).
    values, clusters = np.array([1.0, 2.0, 5.0, 6.0, 1.0, 2.0]), np.array([0, 0, 1, 1, 2, 2])
    between = 2 * np.sum((np.array([1.5, 5.5, 1.5]) - values.mean()) ** 2) / 2
    expected = (between - 0.5) / (between + 0.5)
    assert intraclass_correlation(values, clusters) == pytest.approx(expected)
    assert intraclass_correlation(np.ones(6), clusters) == 0.0


def test_the_table_says_when_the_items_suffice_and_where_the_gain_is_asked() -> None:
    items = rows({"domain": 600, "capitals": 2500})
    power = exam_power(plan_items(items, SETTINGS), SETTINGS, Assumed(draws=5), simulate_sizes=True)
    console = Console(file=StringIO(), width=120)
    for part in render_exam(power, "a file", "assumed"):
        console.print(part)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "For 80 % SHIP at 2 % churn: the items suffice" in printed
    assert "gain" in printed
