import subprocess
from pathlib import Path

import pytest

from flows.git import git
from flows.hand_off import publish, remote_commit
from flows.pipeline import begin, enter_project
from flows.results import Verdict, results_of, verdict_of

PARAMS = "# kept\nsft:\n  learning_rate: 0.1  # why\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a bare repository with a params.yaml."""
    subprocess.run(
        ["git", "init", "-q", "--bare", "-b", "main", "shared.git"], cwd=tmp_path, check=True
    )
    subprocess.run(
        ["git", "clone", "-q", "shared.git", "clone"],
        cwd=tmp_path,
        check=True,
        stderr=subprocess.DEVNULL,
    )
    folder = tmp_path / "clone"
    (folder / "params.yaml").write_text(PARAMS)
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t")
    git(folder, "push", "-q", "origin", "HEAD:refs/heads/main")
    return folder


def test_a_run_starts_at_a_branch_or_at_a_commit(clone: Path) -> None:
    commit = git(clone, "rev-parse", "HEAD")
    assert begin(clone, "main", "runs/x", {}) == begin(clone, commit, "runs/x", {}) == commit
    assert not remote_commit(clone, "runs/x")


def test_changed_params_are_a_commit_on_the_run_s_branch_only(clone: Path) -> None:
    start = begin(clone, "main", "runs/x", {"sft.learning_rate": 0.2})
    assert git(clone, "show", f"{start}:params.yaml") == PARAMS.replace("0.1", "0.2").rstrip("\n")
    assert remote_commit(clone, "runs/x") == start
    assert remote_commit(clone, "main") == git(clone, "rev-parse", f"{start}~1")
    with pytest.raises(ValueError, match=r"params: sft.rate is not in params.yaml of"):
        begin(clone, "main", "runs/y", {"sft.rate": 1})


def test_results_are_read_from_the_run_s_commit(clone: Path) -> None:
    (clone / "metrics").mkdir()
    (clone / "metrics/sft.json").write_text('{"steps": 7}')
    (clone / "dvc.lock").write_text("schema: '2.0'\n")
    commit = publish("sft", "runs/x", clone)
    assert results_of(clone, commit, ["fetch", "sft"]) == {"sft": {"steps": 7}}
    assert results_of(clone, commit, ["fetch"]) == {}
    assert git(clone, "show", "--name-only", "--format=", commit).split() == [
        "dvc.lock",
        "results/sft.json",
    ]


def test_a_worker_needs_a_checkout_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMADAPT_PROJECT", str(tmp_path))
    with pytest.raises(RuntimeError, match="it must be the worker's own checkout"):
        enter_project()


def test_a_verdict_is_read_where_an_evaluation_ran() -> None:
    assert verdict_of({"sft": {"steps": 7}}) is None
    measured = {"verdict": {"outcome": "HOLD", "reason": "general accuracy fell", "evidence": {}}}
    assert verdict_of({"evaluate": measured}) == Verdict(
        outcome="HOLD", reason="general accuracy fell"
    )


@pytest.mark.parametrize(
    ("measured", "key"),
    [
        ({}, "verdict"),
        ({"verdict": "SHIP"}, "verdict"),
        ({"verdict": {"reason": "none"}}, "verdict.outcome"),
        ({"verdict": {"outcome": "ship", "reason": "good"}}, "verdict.outcome"),
    ],
)
def test_an_evaluation_without_a_valid_verdict_is_an_error_that_names_the_key(
    measured: dict[str, object], key: str
) -> None:
    with pytest.raises(ValueError, match=f"results/evaluate.json: {key}: "):
        verdict_of({"evaluate": measured})
