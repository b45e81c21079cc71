import json
import subprocess
from pathlib import Path

import pytest

from lmadapt.core.errors import UserError
from lmadapt.provenance.lineage import (
    git_state,
    locked_stages,
    main_figures,
    read_evaluation,
    without_passwords,
)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=folder, check=True
    )


def test_changed_files_are_named_and_dvc_lock_does_not_count(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for name in ("params.yaml", "dvc.lock"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "all")
    (tmp_path / "dvc.lock").write_text("2")
    clean = git_state(tmp_path)
    assert len(clean["commit"]) == 40
    assert clean["changed_files"] == []
    (tmp_path / "params.yaml").write_text("2")
    assert git_state(tmp_path) == {"commit": clean["commit"], "changed_files": ["params.yaml"]}


def test_a_folder_without_git_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == {"commit": None, "changed_files": []}


def test_without_a_lock_there_are_no_stages(tmp_path: Path) -> None:
    assert locked_stages(tmp_path / "dvc.lock") == {}


def test_passwords_in_addresses_are_left_out_at_any_depth() -> None:
    node = {"a": [{"uri": "postgresql://me:pass@host:1/db"}, "s3://bucket/x"], "n": 1, "none": None}
    assert without_passwords(node) == {
        "a": [{"uri": "postgresql://***@host:1/db"}, "s3://bucket/x"],
        "n": 1,
        "none": None,
    }


@pytest.mark.parametrize(
    "key", ["password", "passwd", "pwd", "token", "secret", "Password", "sslpassword"]
)
def test_secrets_in_the_query_of_an_address_are_left_out(key: str) -> None:
    masked = f"postgresql://host/db?user=me&{key}=***&tries=3"
    assert without_passwords(masked.replace("***", "a-b@c%20")) == masked


def test_the_lock_names_what_is_stored_elsewhere_by_its_etag(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    entries = "[{path: a, md5: x}, {path: 's3://b', etag: y}, {path: c}]"
    lock.write_text(f"stages: {{fetch: {{deps: {entries}}}}}")
    assert locked_stages(lock) == {"fetch": {"deps": {"a": "x", "s3://b": "y"}, "outs": {}}}


def test_the_reason_of_a_verdict_is_required(tmp_path: Path) -> None:
    file = tmp_path / "evaluate.json"
    file.write_text(json.dumps({"verdict": {"outcome": "SHIP"}}))
    with pytest.raises(UserError, match=r"evaluate.json: verdict.reason is missing"):
        read_evaluation(file)


def test_main_figures_are_flat_numbers() -> None:
    evaluation = {
        "models": {"base": {"domain": {"accuracy": 0.5}, "general": {"accuracy": 0.6}}},
        "changes": {"adapted_vs_base": {"domain": {"difference": 0.1}}},
    }
    assert main_figures(evaluation) == {
        "domain_accuracy_base": 0.5,
        "general_accuracy_base": 0.6,
        "domain_change": 0.1,
    }
