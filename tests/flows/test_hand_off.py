import subprocess
import sys
from pathlib import Path

import pytest

from flows.adapt import adapt
from flows.hand_off import hand_over
from flows.run_stage import StageFailed

GRAPH = """
stages:
  first:
    cmd: echo first >> $RAN && cp source.txt one.txt
    deps: [source.txt]
    outs: [one.txt]
  second:
    cmd: echo second >> $RAN && cat one.txt > two.txt
    deps: [one.txt]
    outs: [two.txt]
"""


def run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path) -> str:
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t")
    run(folder, "git", "push", "-q", "origin", "HEAD:refs/heads/main")
    return run(folder, "git", "rev-parse", "HEAD")


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two clones of a small project, which share a git remote and a DVC remote."""
    monkeypatch.setenv("RAN", str(tmp_path / "ran.txt"))
    run(tmp_path, "git", "init", "-q", "--bare", "shared.git")
    run(tmp_path, "git", "clone", "-q", "shared.git", "a")
    a, b = tmp_path / "a", tmp_path / "b"
    (a / "dvc.yaml").write_text(GRAPH)
    (a / "source.txt").write_text("1")
    dvc = [sys.executable, "-m", "dvc"]
    run(a, *dvc, "init", "-q")
    run(a, *dvc, "config", "core.analytics", "false")
    run(a, *dvc, "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    commit(a)
    run(tmp_path, "git", "clone", "-q", "-b", "main", "shared.git", "b")
    return a, b


def test_a_stage_takes_what_another_agent_handed_over_and_no_stage_runs_twice(
    agents: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = agents
    outcome, after_first = hand_over("first", run(a, "git", "rev-parse", "HEAD"), "runs/x", a, print)
    outcome_b, after_second = hand_over("second", after_first, "runs/x", b, print)
    assert (outcome, outcome_b) == ("ran", "ran")
    assert (tmp_path / "ran.txt").read_text() == "first\nsecond\n"
    assert (b / "two.txt").read_text() == "1"
    assert run(a, "git", "ls-remote", "origin", "runs/x").split()[0] == after_second
    assert hand_over("second", after_second, "runs/x", a, print) == ("restored from cache", after_second)
    assert (a / "two.txt").read_text() == "1"
    assert hand_over("second", after_second, "runs/x", a, print) == ("unchanged", after_second)


def test_what_was_not_pushed_is_refused_not_run_again(agents: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = agents
    with pytest.raises(StageFailed, match="first comes before it") as caught:
        hand_over("second", run(a, "git", "rev-parse", "HEAD"), "runs/x", b, print)
    assert (caught.value.stage, caught.value.exit_code) == ("second", 78)
    assert not (tmp_path / "ran.txt").exists()
    assert not run(a, "git", "ls-remote", "origin", "runs/x")


def test_no_stage_runs_on_the_output_of_an_older_one(agents: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = agents
    hand_over("first", run(a, "git", "rev-parse", "HEAD"), "runs/x", a, print)
    (a / "source.txt").write_text("2")  # dvc.lock and the remote still hold what came of 1
    stale = commit(a)
    with pytest.raises(StageFailed, match="first comes before it"):
        hand_over("second", stale, "runs/y", b, print)
    assert not (b / "two.txt").exists()
    assert (tmp_path / "ran.txt").read_text() == "first\n"


def test_a_branch_another_run_wrote_to_is_not_overwritten(agents: tuple[Path, Path]) -> None:
    a, b = agents
    start = run(a, "git", "rev-parse", "HEAD")
    (b / "source.txt").write_text("2")
    run(b, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "other")
    run(b, "git", "push", "-q", "origin", "HEAD:refs/heads/runs/x")
    with pytest.raises(StageFailed, match="git push"):
        hand_over("first", start, "runs/x", a, print)
    assert run(a, "git", "ls-remote", "origin", "runs/x").split()[0] == run(b, "git", "rev-parse", "HEAD")


def test_a_checkout_with_edits_is_not_overwritten(agents: tuple[Path, Path]) -> None:
    a, _ = agents
    (a / "source.txt").write_text("mine")
    with pytest.raises(StageFailed, match=r"source\.txt; commit or undo it"):
        hand_over("first", run(a, "git", "rev-parse", "HEAD"), "runs/x", a, print)
    assert (a / "source.txt").read_text() == "mine"


def test_a_list_of_stages_names_only_stages_of_the_project(agents: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=r"nothere not in .*which has first, second"):
        adapt.fn(agents[0], ["nothere"])
