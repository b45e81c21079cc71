"""The whole pipeline by real `dvc repro` on a two-layer model: what a run leaves behind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import mlflow
import pyarrow.parquet as pq
import pytest
import yaml

from lmadapt.provenance.document import Lineage
from lmadapt.provenance.trace_document import drawn_ids
from tests.project import ROOT, dvc, make_project, python, set_params

STAGES = ["fetch", "curate", "validate", "pretrain", "sft", "evaluate", "register"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = make_project(tmp_path_factory.mktemp("pipeline"), tiny_model)
    outcome = dvc(folder, "repro")
    assert outcome.returncode == 0, outcome.stdout[-6000:]
    assert re.findall(r"Running stage '(\w+)'", outcome.stdout) == STAGES
    return folder


def metrics(project: Path, stage: str) -> dict:  # type: ignore[type-arg]
    return json.loads((project / f"metrics/{stage}.json").read_text())  # type: ignore[no-any-return]


def test_each_model_has_its_figures_with_n_and_interval(project: Path) -> None:
    models = metrics(project, "evaluate")["models"]
    assert list(models) == ["adapted", "base", "pretrained", "reference"]
    for figures in models.values():
        for accuracy in (
            figures["domain"],
            figures["general"],
            *figures["categories"]["general"].values(),
        ):
            low, high = accuracy["interval"]
            assert 0 <= low <= accuracy["accuracy"] <= high <= 1
            assert accuracy["n"] >= 30
        for text in figures["bits_per_byte"].values():
            assert text["interval"][0] <= text["value"] <= text["interval"][1]


def test_the_verdict_is_one_of_three_with_a_reason(project: Path) -> None:
    verdict = metrics(project, "evaluate")["verdict"]
    assert verdict["outcome"] in {"SHIP", "HOLD", "INCONCLUSIVE"}
    assert verdict["reason"].endswith(".")


def test_every_raw_row_has_one_decision(project: Path) -> None:
    raw = [
        row
        for file in (project / "data/raw").glob("*.parquet")
        for row in pq.read_table(file)["id"].to_pylist()
    ]
    decided = pq.read_table(project / "data/curated/decisions.parquet")["id"].to_pylist()
    assert sorted(decided) == sorted(raw)


def test_the_report_stands_alone(project: Path) -> None:
    report = (project / "reports/forgetting.html").read_text()
    assert metrics(project, "evaluate")["verdict"]["outcome"] in report
    assert not re.findall(r"""(?:src|href)=["']https?://""", report)


def test_a_second_repro_runs_nothing(project: Path) -> None:
    again = dvc(project, "repro")
    assert again.returncode == 0
    assert "Data and pipelines are up to date" in again.stdout


def test_a_changed_margin_gives_a_new_version_and_the_old_margin_the_old_one(project: Path) -> None:
    def registered() -> dict:  # type: ignore[type-arg]
        return {"version": metrics(project, "register")["version"], **aliases(project)}

    before = registered()
    set_params(project, {"evaluate": {"margin": 0.5}})
    there = dvc(project, "repro").stdout
    changed = registered()
    set_params(project, {"evaluate": {"margin": 0.02}})
    back = dvc(project, "repro").stdout
    assert re.findall(r"Running stage '(\w+)'", there) == ["validate", "evaluate", "register"]
    assert changed["candidate"] == changed["version"] != before["version"]
    assert "Stage 'evaluate' is cached" in back
    assert registered() == before


def aliases(project: Path) -> dict[str, int]:
    """Aliases of the registered model and the versions that they point to."""
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db", f"sqlite:///{project}/mlflow.db")
    return {
        alias: int(version)
        for alias, version in client.get_registered_model("tiny").aliases.items()
    }


@pytest.mark.parametrize(
    ("section", "key", "value", "stale"),
    [
        ("sft", "learning_rate", 0.5, ["sft"]),
        ("pretrain", "learning_rate", 0.5, ["pretrain"]),
    ],
)
def test_a_changed_param_makes_its_own_stage_stale(
    project: Path, section: str, key: str, value: float, stale: list[str]
) -> None:
    before = (project / "params.yaml").read_text()
    set_params(project, {section: {key: value}})
    try:
        status = json.loads(dvc(project, "status", "--json").stdout)
    finally:
        (project / "params.yaml").write_text(before)
    assert sorted(status) == stale


def test_dvc_shows_metrics_and_plots(project: Path) -> None:
    shown = json.loads(dvc(project, "metrics", "show", "--json").stdout)
    assert "metrics/evaluate.json" in json.dumps(shown)
    plots = dvc(project, "plots", "show", "-o", "shown")
    assert plots.returncode == 0, plots.stdout
    assert (project / "shown/index.html").is_file()


def test_a_version_loads_in_a_process_that_knows_only_the_registry(
    project: Path, tmp_path: Path
) -> None:
    version = metrics(project, "register")
    alias = version["aliases"][0]
    program = (
        "import mlflow; model = mlflow.pyfunc.load_model('models:/tiny@" + alias + "');"
        "print('answers', len(model.predict(['What is a buffer?', 'And a token?'])))"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
    }
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "answers 2" in elsewhere.stdout, elsewhere.stderr[-3000:]


def lmadapt(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(project, "lmadapt", *arguments, COLUMNS="200")


def test_lineage_leads_from_the_version_down_to_the_raw_files(project: Path) -> None:
    shown = lmadapt(project, "lineage", "tiny@candidate")
    assert shown.returncode == 0, shown.stderr
    for stage in STAGES[:-1]:
        assert f"by {stage} in " in shown.stdout
    assert "from data/own/corpus.jsonl" in shown.stdout
    fingerprint = yaml.safe_load((project / "dvc.lock").read_text())["stages"]["sft"]["outs"]
    assert (
        next(out["md5"] for out in fingerprint if out["path"] == "models/adapter") in shown.stdout
    )


def test_the_lineage_document_follows_its_schema(project: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db", f"sqlite:///{project}/mlflow.db")
    version = client.get_model_version_by_alias("tiny", "candidate")
    run = client.get_run(version.run_id)
    document = json.loads(
        (Path(run.info.artifact_uri.removeprefix("file://")) / "lineage.json").read_text()
    )
    jsonschema.validate(document, json.loads((ROOT / "docs/lineage.schema.json").read_text()))
    assert {stage: set(runs) for stage, runs in document["runs"].items()}.keys() == set(STAGES) - {
        "register"
    }
    assert document["metrics"]["validate"]["expectations"]


def test_trace_finds_each_document_and_agrees_with_the_counts_of_the_stages(project: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db", f"sqlite:///{project}/mlflow.db")
    version = client.get_model_version_by_alias("tiny", "candidate")
    run = client.get_run(version.run_id)
    document = json.loads(
        (Path(run.info.artifact_uri.removeprefix("file://")) / "lineage.json").read_text()
    )
    lineage = Lineage.model_validate(document)
    for stage, tables in {
        "pretrain": ("corpus", "replay_text"),
        "sft": ("instructions", "replay_instructions"),
    }.items():
        for table, kind in zip(tables, ("domain", "replay"), strict=True):
            drawn = drawn_ids(lineage, stage, table)
            assert drawn is not None
            assert len(drawn) == metrics(project, stage)[kind]["documents_used"]
    decisions = pq.read_table(project / "data/curated/decisions.parquet").to_pylist()
    trained = next(iter(drawn_ids(lineage, "pretrain", "corpus") or ()))
    shown = lmadapt(project, "trace", "tiny@candidate", "--document", trained)
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (0, f"{trained}: trained on"), (
        shown.stderr
    )
    for split in ("heldout_text", "items"):
        held = next(row["id"] for row in decisions if row["split"] == split)
        shown = lmadapt(project, "trace", "tiny@candidate", "--document", held)
        assert shown.returncode == 2
        assert f"no stage trains on it: it is in {split}" in shown.stdout
    unknown = lmadapt(project, "trace", "tiny@candidate", "--document", "nothing/1")
    assert unknown.returncode == 1
    assert "no document 'nothing/1' among the" in unknown.stderr


def test_reproducing_a_version_gives_the_same_hashes(project: Path) -> None:
    shown = lmadapt(project, "reproduce", "tiny@candidate")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert re.search(r"sft +│ models/adapter +│ (\w+\.dir) +│ \1 +│ same", shown.stdout)
    assert "different" not in shown.stdout
    trees = subprocess.run(
        ["git", "worktree", "list"], cwd=project, capture_output=True, text=True, check=True
    )
    assert len(trees.stdout.splitlines()) == 1
