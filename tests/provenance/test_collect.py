from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
from lmadapt.core.recipes import use_recipe
from lmadapt.provenance.collect import collect_origin, main_figures
from lmadapt.provenance.document import Origin
from lmadapt.verdict.figures import EvaluationFigures
from tests.adapted import ROOT, evaluation_figures, write_evaluation


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("models/pretrained", "models/adapter"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "weights").write_text(name)
    (tmp_path / "models/adapter/chat_template.jinja").write_text("{{ messages }}")
    use_recipe("demo-cpu", ROOT / "recipes", tmp_path / "params.yaml")
    write_evaluation(tmp_path, "SHIP")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def collect(project: Path) -> Origin:
    return collect_origin(
        project,
        pretrained=Path("models/pretrained"),
        adapter=Path("models/adapter"),
        evaluation=Path("metrics/evaluate.json"),
        lock=Path("dvc.lock"),
    )


def test_the_origin_holds_verdict_figures_and_hashes(project: Path) -> None:
    origin = collect(project)
    assert origin.verdict.outcome == "SHIP"
    assert origin.figures["domain_change"] == 0.2
    assert origin.alpha_scale == 1.0
    assert origin.requirements_lock_sha256 is None
    assert origin.params["sft"]["lora_rank"] == 16


def test_an_adapter_without_a_chat_template_is_refused(project: Path) -> None:
    (project / "models/adapter/chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"chat_template.jinja: no such file; an adapter is"):
        collect(project)


def test_an_evaluation_of_an_earlier_release_is_refused_in_one_sentence(project: Path) -> None:
    (project / "metrics/evaluate.json").write_text('{"verdict": {"outcome": "SHIP"}}')
    with pytest.raises(UserError, match=r"metrics/evaluate.json: judged is missing; .*dvc repro"):
        collect(project)


def test_main_figures_are_accuracies_and_changes_by_name() -> None:
    figures = main_figures(EvaluationFigures.model_validate(evaluation_figures()))
    assert figures == {
        "domain_accuracy_reference": 0.4,
        "general_accuracy_reference": 0.4,
        "domain_accuracy_base": 0.4,
        "general_accuracy_base": 0.4,
        "domain_accuracy_pretrained": 0.5,
        "general_accuracy_pretrained": 0.5,
        "domain_accuracy_adapted": pytest.approx(0.6),
        "general_accuracy_adapted": pytest.approx(0.6),
        "domain_change": 0.2,
        "general_change": -0.001,
    }
