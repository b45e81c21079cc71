import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from lmadapt.cli.app import app
from lmadapt.core.recipes import render_recipe, use_recipe
from lmadapt.report.markdown import summarise_in_markdown
from lmadapt.verdict.figures import EvaluationFigures
from tests.adapted import ROOT, make_adapted_project, write_evaluation
from tests.report_inputs import make_figures

COMMANDS = ["use", "plan", "doctor"]
COMMANDS += ["gate", "summary", "report", "evaluate", "generate", "why"]
COMMANDS += ["models", "promote", "rollback", "lineage", "trace", "reproduce", "serve"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_adapted_project(tmp_path_factory.mktemp("cli"), tiny_model)


@pytest.fixture
def project(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def lmadapt(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command: str) -> None:
    shown = lmadapt(command, "--help")
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert "xit" in shown.output.partition("Options")[0] or command == "use"
    assert command in lmadapt("--help").output


def test_the_command_line_starts_without_heavy_libraries() -> None:
    program = (
        "import sys, lmadapt.cli.app; heavy = {'torch', 'mlflow', 'transformers', 'pandas'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_python_m_lmadapt_is_the_command_and_an_error_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "lmadapt", "gate"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr == "lmadapt: dvc.yaml: no such file; run lmadapt in the folder of the project\n"
    )
    assert done.stdout == ""


@pytest.mark.parametrize(("outcome", "code"), [("SHIP", 0), ("HOLD", 2), ("INCONCLUSIVE", 3)])
def test_the_exit_code_of_the_gate_is_the_verdict(project: Path, outcome: str, code: int) -> None:
    write_evaluation(project, outcome)
    done = lmadapt("gate")
    assert done.exit_code == code
    assert outcome in done.output
    assert "[-0.5, 0.3]" in done.output


def test_the_gate_refuses_a_verdict_it_does_not_know(project: Path) -> None:
    file = project / "metrics/evaluate.json"
    file.write_text(file.read_text().replace("SHIP", "MAYBE"))
    done = lmadapt("gate")
    assert done.exit_code == 1
    assert "metrics/evaluate.json: verdict.outcome: " in done.output
    assert "got 'MAYBE'" in done.output


def test_the_gate_refuses_figures_of_an_earlier_release_in_one_sentence(project: Path) -> None:
    figures = json.loads((project / "metrics/evaluate.json").read_text())
    del figures["fairness"]
    (project / "metrics/evaluate.json").write_text(json.dumps(figures))
    done = lmadapt("gate")
    assert done.exit_code == 1
    assert done.output.startswith("lmadapt: metrics/evaluate.json: fairness is missing; ")
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["gat"], ["gate", "--strict"], ["gate", "now"]])
def test_wrong_usage_is_not_mistaken_for_a_verdict(arguments: list[str]) -> None:
    assert lmadapt(*arguments).exit_code == 1


def test_a_graph_without_the_stage_says_so(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages:\n  fetch:\n    cmd: x\n")
    done = lmadapt("gate")
    assert done.exit_code == 1
    assert "dvc.yaml: has no stage `evaluate`; present: fetch" in done.output


def test_the_gate_without_an_evaluation_is_an_error(project: Path) -> None:
    (project / "metrics/evaluate.json").unlink()
    done = lmadapt("gate")
    assert done.exit_code == 1
    assert "metrics/evaluate.json: no such file; `dvc repro` makes it" in done.output


def test_use_lists_recipes_and_writes_the_one_named(project: Path) -> None:
    shutil.copytree(ROOT / "recipes", project / "recipes")
    use_recipe("demo-cpu", project / "recipes", project / "params.yaml", force=True)
    assert "one 24 GB GPU" in lmadapt("use").output
    assert lmadapt("use", "8b-24gb").exit_code == 0
    written = (project / "params.yaml").read_text()
    assert written == render_recipe("8b-24gb", ROOT / "recipes")
    (project / "params.yaml").write_text("mine: 1\n")
    assert lmadapt("use", "demo-cpu").exit_code == 1
    assert lmadapt("use", "demo-cpu", "--force").exit_code == 0
    assert "did you mean `8b-80gb`" in lmadapt("use", "8b-80g").output


@pytest.mark.parametrize(("outcome", "code"), [("ok", 0), ("warning", 0), ("failed", 1)])
def test_the_doctor_fails_only_on_a_failed_check(
    project: Path, monkeypatch: pytest.MonkeyPatch, outcome: str, code: int
) -> None:
    def diagnose(folder: Path, *, gradient: bool) -> list[SimpleNamespace]:
        assert folder == project
        return [
            SimpleNamespace(name="memory", status=outcome, detail=f"[7.5] GiB, gradient {gradient}")
        ]

    monkeypatch.setitem(sys.modules, "lmadapt.planning.doctor", SimpleNamespace(diagnose=diagnose))
    done = lmadapt("doctor", "--no-gradient")
    assert done.exit_code == code
    assert f"{outcome:<8} memory: [7.5] GiB, gradient False" in done.output


def test_the_summary_shows_models_verdict_report_and_version(project: Path) -> None:
    version = {"model_name": "tiny", "version": 3, "aliases": ["candidate", "champion"]}
    (project / "metrics/register.json").write_text(json.dumps(version))
    shown = lmadapt("summary").output
    assert "60.0 % [55.0, 65.0]" in shown
    assert "+20.0 points [+15.0, +25.0]" in shown
    assert "1.400 [1.300, 1.500]" in shown
    assert "-0.200 [-0.300, -0.100]" in shown
    assert "not measured" in shown
    assert "Verdict: SHIP. general accuracy fell by 0.1 points [-0.5, 0.3]." in shown
    assert "reports/forgetting.html" in shown
    assert "tiny version 3 (models:/tiny@candidate, models:/tiny@champion)" in shown


def test_the_summary_of_an_unfinished_run_names_the_missing_file(project: Path) -> None:
    done = lmadapt("summary")
    assert done.exit_code == 1
    assert "metrics/register.json: no such file" in done.output


def test_the_report_is_printed_as_a_path_or_as_markdown(project: Path) -> None:
    assert lmadapt("report").output == "reports/forgetting.html\n"
    figures = make_figures("HOLD")
    (project / "metrics/evaluate.json").write_text(json.dumps(figures))
    summary = summarise_in_markdown(EvaluationFigures.model_validate(figures))
    assert lmadapt("report", "--markdown").output == summary + "\n"
    (project / "metrics/evaluate.json").unlink()
    assert (
        "metrics/evaluate.json: no such file; `dvc repro` makes it"
        in lmadapt("report", "--markdown").output
    )


def test_generate_shows_two_models_side_by_side(project: Path) -> None:
    done = lmadapt(
        "generate", "What is 1?", "And [b]2?", "--compare", "base", "--max-new-tokens", "4"
    )
    assert done.exit_code == 0, done.output
    header = next(line for line in done.output.splitlines() if "prompt" in line)
    assert header.index("adapted") < header.index("base")
    assert "And [b]2?" in done.output


def test_only_models_from_the_registry_need_its_address(project: Path) -> None:
    (project / "params.yaml").write_text("evaluate: {precision: nf4}\n")
    done = lmadapt("generate", "Hi", "--model", "base", "--compare", "models:/tiny@champion")
    assert done.exit_code == 1
    assert "params.yaml: register.tracking_uri is missing" in done.output
    assert lmadapt("generate", "Hi", "--model", "base", "--max-new-tokens", "2").exit_code == 0


def test_an_unknown_model_is_refused_with_what_is_allowed(project: Path) -> None:
    done = lmadapt("generate", "Hi", "--model", "adaptd")
    assert done.exit_code == 1
    assert (
        "adaptd: no model here; allowed: base, pretrained, adapted, models:/NAME@ALIAS, or a folder"
        in done.output
    )
