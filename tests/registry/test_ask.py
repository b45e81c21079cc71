from pathlib import Path

import pytest

from lmadapt.registry.ask import answer_with
from tests.adapted import make_adapted_project, run_register

PROMPTS = [f"What is number {i}?" for i in range(4)]


def answers(model: str, **changes: float) -> list[str]:
    paths = {name: Path("models") / name for name in ("base", "pretrained", "adapter")}
    options = {"max_new_tokens": 6, "temperature": 0.0, "precision": "nf4", **changes}
    return answer_with(model, PROMPTS, paths, tracking_uri="sqlite:///mlflow.db", **options)  # type: ignore[arg-type]


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_adapted_project(tmp_path, tiny_model)


def test_the_adapter_changes_answers_and_is_found_by_name_folder_and_registry(
    project: Path,
) -> None:
    run_register()
    adapted = answers("adapted")
    assert adapted == answers("models/adapter") == answers("models:/tiny@champion")
    assert adapted != answers("base") == answers("models/base") == answers("pretrained")


def test_length_and_temperature_reach_the_model(project: Path) -> None:
    assert len("".join(answers("adapted", max_new_tokens=20))) > len(
        "".join(answers("adapted", max_new_tokens=2))
    )
    assert answers("adapted", temperature=9.0) != answers("adapted")
