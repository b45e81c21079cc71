import subprocess
from pathlib import Path

import pytest

from lmadapt.provenance.git import git_state


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)


def test_changed_files_are_named_except_dvc_lock(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for name in ("params.yaml", "dvc.lock"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "all")
    (tmp_path / "dvc.lock").write_text("2")
    clean = git_state(tmp_path)
    assert len(clean.commit or "") == 40
    assert clean.changed_files == []
    (tmp_path / "params.yaml").write_text("2")
    assert git_state(tmp_path).commit == clean.commit
    assert git_state(tmp_path).changed_files == ["params.yaml"]


def test_a_folder_without_git_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    state = git_state(tmp_path)
    assert (state.commit, state.changed_files) == (None, [])
