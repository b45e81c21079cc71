"""A checkout about which git refuses to answer, because another account owns it."""

import json
import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.provenance import git
from lmadapt.provenance.collect import _known_to_git
from lmadapt.provenance.document import GitState, lineage_schema
from lmadapt.provenance.git import git_state
from lmadapt.provenance.reproduce import reproduce
from lmadapt.provenance.tree import lineage_tree
from lmadapt.registry.promotion import champion_refusal
from lmadapt.registry.upload import version_tags
from tests.adapted import make_lineage


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a changed file, as git sees it when someone else owns it."""
    commit = ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all"]
    (tmp_path / "params.yaml").write_text("1")
    for command in (["init", "-q"], ["add", "-A"], commit):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "params.yaml").write_text("2")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    return tmp_path


def test_a_refusal_of_git_is_told_from_a_clean_checkout(foreign: Path) -> None:
    state = git_state(foreign)
    assert (state.commit, state.changed_files) == (None, [])
    assert "detected dubious ownership in repository" in state.problem


def test_without_git_a_checkout_is_unknown_and_another_folder_is_not(
    foreign: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(git.subprocess, "run", missing)
    assert git_state(foreign).problem == "git is not installed"
    assert git_state(tmp_path_factory.mktemp("plain")).problem == ""


def test_a_repository_without_a_commit_names_all_files_as_changed(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "params.yaml").write_text("1")
    assert git_state(tmp_path) == GitState(commit=None, changed_files=["params.yaml"])


def test_a_version_of_unknown_code_is_promoted_only_by_force() -> None:
    unknown = {"commit": None, "changed_files": [], "problem": "fatal: dubious ownership"}
    lineage = make_lineage(git=unknown)
    tags = version_tags(lineage, "0") | {"status": "verified", "verdict": "SHIP"}
    assert tags["git_dirty"] == "unknown"
    version: Any = type("Version", (), {"tags": tags, "version": "1"})
    refusal = champion_refusal(None, version, None)  # type: ignore[arg-type]
    assert refusal == "nobody knows the code it was made with: fatal: dubious ownership"
    assert champion_refusal(None, version, None, "I know it") == ""  # type: ignore[arg-type]
    assert "unknown: fatal: dubious" in str(lineage_tree(lineage, "v").children[0].label)
    with pytest.raises(UserError, match="cannot be reproduced from a commit: when it was"):
        reproduce(lineage, Path())
    known = version_tags(make_lineage(), "0")
    assert (known["git_dirty"], "git_problem" in known) == ("false", False)
    assert "problem" in json.loads(lineage_schema())["$defs"]["GitState"]["properties"]


def test_register_warns_and_names_the_cure(foreign: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert _known_to_git(foreign).problem
    assert f"git config --global --add safe.directory {foreign}" in caplog.text
