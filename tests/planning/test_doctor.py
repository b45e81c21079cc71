import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from lmadapt.core.recipes import use_recipe
from lmadapt.core.tables import RAW_TABLES, write_table
from lmadapt.models.chat import Encoded
from lmadapt.models.loading import load_tokenizer
from lmadapt.planning import doctor
from lmadapt.planning.doctor import Check, diagnose
from tests.tables import instruction

ROOT = Path(__file__).parents[2]


def _by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def _project(folder: Path, model: Path) -> Path:
    shutil.copytree(model, folder / "models" / "base")
    return folder


def test_in_an_empty_folder_the_checks_say_what_is_missing_and_what_makes_it(
    tmp_path: Path,
) -> None:
    found = _by_name(diagnose(tmp_path))
    assert found["libraries"].status == "ok"
    assert found["libraries"].detail.startswith("python 3.")
    assert found["git and dvc"] == Check(
        "git and dvc", "failed", f"{tmp_path} is not a git repository; `git init` makes it one"
    )
    assert "`dvc repro fetch`" in found["raw data"].detail
    assert "`dvc repro curate`" in found["curated data"].detail
    assert found["model"].status == "warning"


def test_a_project_with_git_and_dvc_passes_and_active_telemetry_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["dvc", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    found = _by_name(diagnose(tmp_path))
    assert found["git and dvc"].status == "ok"
    assert found["telemetry"] == Check(
        "telemetry", "warning", "not off: DO_NOT_TRACK, dvc config core.analytics"
    )


def test_dvc_must_be_installed_but_need_not_be_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = _by_name(diagnose(tmp_path))
    assert found["git and dvc"].status == "ok"
    assert "core.analytics" in found["telemetry"].detail
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert _by_name(diagnose(tmp_path))["git and dvc"].detail.startswith("dvc is not installed")


def test_a_gpu_without_bf16_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    check = _by_name(diagnose(tmp_path))["gpu"]
    assert check.status == "failed"
    assert check.detail.startswith("Tesla T4 has no bf16")


def test_tables_are_counted_and_a_missing_one_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "data" / "raw"
    for name, schema in RAW_TABLES.items():
        write_table(
            [instruction(0, "What?", "This")] if name == "instructions" else [],
            schema,
            raw / f"{name}.parquet",
        )
    assert "instructions 1" in _by_name(diagnose(tmp_path))["raw data"].detail
    (raw / "corpus.parquet").unlink()
    assert _by_name(diagnose(tmp_path))["raw data"].status == "failed"
    assert "corpus.parquet" in _by_name(diagnose(tmp_path))["raw data"].detail


def test_checks_of_a_model_mark_the_part_that_carries_loss_and_find_gradients(
    tiny_model: Path, tmp_path: Path
) -> None:
    found = _by_name(diagnose(_project(tmp_path, tiny_model)))
    assert "Answer:« Paris<eos>»" in found["template"].detail
    assert found["label mask"].status == "ok"
    assert found["gradient flow"].status == "ok"
    assert "every trainable tensor" in found["gradient flow"].detail


def test_a_template_that_hides_the_prompt_fails_its_checks(
    tiny_model: Path, tmp_path: Path
) -> None:
    project = _project(tmp_path, tiny_model)
    tokenizer = load_tokenizer(project / "models" / "base")
    tokenizer.chat_template = "{{ messages[-1]['content'] + eos_token }}"
    tokenizer.save_pretrained(project / "models" / "base")
    found = _by_name(diagnose(project, gradient=False))
    assert "gradient flow" not in found
    assert found["template"].status == "failed"
    assert "does not begin with" in found["template"].detail


def test_an_end_of_turn_without_loss_fails_the_label_mask(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = doctor.encode_conversation
    for broken, complaint in ((slice(-1, None), "would not learn to stop"), (slice(0, 2), "2 of")):

        def spoilt(tokenizer: object, messages: object, broken: slice = broken) -> Encoded:
            encoded = encode(tokenizer, messages)  # type: ignore[arg-type]
            labels = list(encoded.labels)
            labels[broken] = [doctor.IGNORED] if broken.start else encoded.input_ids[broken]
            return Encoded(encoded.input_ids, labels)

        monkeypatch.setattr(doctor, "encode_conversation", spoilt)
        project = tmp_path / str(broken.start)
        check = _by_name(diagnose(_project(project, tiny_model), gradient=False))["label mask"]
        assert check.status == "failed"
        assert complaint in check.detail


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({}, "ok", "adapter in nf4, which will be served, with base in bf16"),
        ({"reference": "models:/x@champion"}, "ok", "with models:/x@champion in its own precision"),
        ({"reference": "models/last"}, "failed", "evaluate.reference: models/last: no model here"),
        ({"method": "full"}, "failed", "set register.artifact to merged"),
    ],
)
def test_what_is_compared_is_looked_at_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, str], status: str, detail: str
) -> None:
    use_recipe("demo-cpu", ROOT / "recipes", tmp_path / "params.yaml")
    settings = YAML().load(tmp_path / "params.yaml")
    for key, value in changes.items():
        settings["sft" if key == "method" else "evaluate"][key] = value
    YAML().dump(settings, tmp_path / "params.yaml")
    found = doctor._check("what is compared", doctor._compared, tmp_path)
    assert found.status == status
    assert detail in found.detail
