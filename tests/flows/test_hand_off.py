import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows import hand_off
from flows.adapt import adapt
from flows.hand_off import hand_over
from flows.lease import lease_ref, take_lease
from flows.run_stage import StageFailed
from flows.shared_store import pull_checkpoints, push_checkpoints
from tests.flows.dvc_project import fork_dvc, initialise

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
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path) -> str:
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t")
    run(folder, "git", "push", "-q", "origin", "HEAD:refs/heads/main")
    return run(folder, "git", "rev-parse", "HEAD")


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two clones of a small project, which share a git remote and a DVC remote."""
    fork_dvc(monkeypatch)
    monkeypatch.setenv("RAN", str(tmp_path / "ran.txt"))
    run(tmp_path, "git", "init", "-q", "--bare", "shared.git")
    run(tmp_path, "git", "clone", "-q", "shared.git", "a")
    a, b = tmp_path / "a", tmp_path / "b"
    initialise(a, tmp_path / "store")
    (a / "dvc.yaml").write_text(GRAPH)
    (a / "source.txt").write_text("1")
    commit(a)
    run(tmp_path, "git", "clone", "-q", "-b", "main", "shared.git", "b")
    return a, b


def test_a_stage_uses_another_agent_s_output_and_no_stage_runs_twice(
    agents: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = agents
    outcome, after_first = hand_over(
        "first", run(a, "git", "rev-parse", "HEAD"), "runs/x", a, print
    )
    outcome_b, after_second = hand_over("second", after_first, "runs/x", b, print)
    assert (outcome, outcome_b) == ("ran", "ran")
    assert (tmp_path / "ran.txt").read_text() == "first\nsecond\n"
    assert (b / "two.txt").read_text() == "1"
    assert run(a, "git", "ls-remote", "origin", "runs/x").split()[0] == after_second
    assert hand_over("second", after_second, "runs/x", a, print) == (
        "restored from cache",
        after_second,
    )
    assert (a / "two.txt").read_text() == "1"
    assert hand_over("second", after_second, "runs/x", a, print) == ("unchanged", after_second)


def test_outputs_are_linked_to_the_cache_unless_the_project_sets_another_type(
    agents: tuple[Path, Path],
) -> None:
    a, b = agents
    run(b, sys.executable, "-m", "dvc", "config", "--local", "cache.type", "copy")
    _, after_first = hand_over("first", run(a, "git", "rev-parse", "HEAD"), "runs/x", a, print)
    _, after_second = hand_over("second", after_first, "runs/x", b, print)
    assert not (b / "one.txt").samefile(b / "two.txt")
    run(b, sys.executable, "-m", "dvc", "config", "--local", "cache.type", "hardlink")
    (b / "one.txt").unlink()
    (b / "two.txt").unlink()
    hand_over("second", after_second, "runs/x", b, print)
    assert (b / "one.txt").samefile(b / "two.txt")  # equal, so one object of the cache
    assert "reflink,hardlink" in (a / ".dvc/config.local").read_text()


def test_a_stage_whose_input_was_never_pushed_is_refused(
    agents: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = agents
    with pytest.raises(StageFailed, match="first comes before it") as caught:
        hand_over("second", run(a, "git", "rev-parse", "HEAD"), "runs/x", b, print)
    assert (caught.value.stage, caught.value.exit_code) == ("second", 78)
    assert not (tmp_path / "ran.txt").exists()
    assert not run(a, "git", "ls-remote", "origin", "refs/heads/runs/x")


def test_no_stage_runs_on_an_outdated_output(agents: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = agents
    hand_over("first", run(a, "git", "rev-parse", "HEAD"), "runs/x", a, print)
    (a / "source.txt").write_text("2")  # dvc.lock and the remote still hold the output for 1
    stale = commit(a)
    with pytest.raises(StageFailed, match="first comes before it"):
        hand_over("second", stale, "runs/y", b, print)
    assert not (b / "two.txt").exists()
    assert (tmp_path / "ran.txt").read_text() == "first\n"


def test_a_branch_with_another_run_s_commit_is_not_overwritten(agents: tuple[Path, Path]) -> None:
    a, b = agents
    start = run(a, "git", "rev-parse", "HEAD")
    (b / "source.txt").write_text("2")
    run(b, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "other")
    run(b, "git", "push", "-q", "origin", "HEAD:refs/heads/runs/x")
    with pytest.raises(StageFailed, match="git push"):
        hand_over("first", start, "runs/x", a, print)
    assert run(a, "git", "ls-remote", "origin", "runs/x").split()[0] == run(
        b, "git", "rev-parse", "HEAD"
    )


def test_a_checkout_with_edits_is_not_overwritten(agents: tuple[Path, Path]) -> None:
    a, _ = agents
    (a / "source.txt").write_text("mine")
    with pytest.raises(StageFailed, match=r"source\.txt; commit or undo it"):
        hand_over("first", run(a, "git", "rev-parse", "HEAD"), "runs/x", a, print)
    assert (a / "source.txt").read_text() == "mine"


def test_an_unknown_stage_is_named_with_the_known_ones(agents: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=r"nothere not in .*which has first, second"):
        adapt.fn(agents[0], ["nothere"])


def test_an_agent_stops_its_stage_and_writes_nothing_when_its_run_is_taken_over(
    agents: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_off, "PULSE_SECONDS", 0.5)
    monkeypatch.setattr("flows.run_stage.DVC", (sys.executable, "-m", "dvc"))  # ends when told to
    a, b = agents
    (a / "dvc.yaml").write_text(
        GRAPH.replace("cp source.txt one.txt", "sleep 60 && cp source.txt one.txt")
    )
    start = commit(a)
    stage_began = threading.Event()
    failures: list[StageFailed] = []

    def log(line: str) -> None:
        if "Running" in line:
            stage_began.set()

    def disconnected() -> None:
        try:
            hand_over("first", start, "runs/x", a, log)
        except StageFailed as failure:
            failures.append(failure)

    thread = threading.Thread(target=disconnected)
    thread.start()
    assert stage_began.wait(60)
    token = take_lease(b, "runs/x")
    thread.join(40)
    assert [failure.exit_code for failure in failures] == [77]
    assert run(a, "git", "ls-remote", "origin", lease_ref("runs/x")).split()[0] == token
    assert not run(a, "git", "ls-remote", "origin", "refs/heads/runs/x")
    assert not (tmp_path / "store/files").exists()


def test_the_git_remote_refuses_a_push_without_the_lease(
    agents: tuple[Path, Path],
) -> None:
    a, b = agents
    ours = take_lease(a, "runs/x")
    take_lease(b, "runs/x")
    push = ["git", "push", "--atomic", f"--force-with-lease={lease_ref('runs/x')}:{ours}", "origin"]
    done = subprocess.run(
        [*push, "HEAD:refs/heads/runs/x", f":{lease_ref('runs/x')}"], cwd=a, check=False
    )
    assert done.returncode
    assert not run(a, "git", "ls-remote", "origin", "refs/heads/runs/x")


def test_a_lease_is_given_back_with_the_result(agents: tuple[Path, Path]) -> None:
    a, _ = agents
    hand_over("first", run(a, "git", "rev-parse", "HEAD"), "runs/x", a, print)
    assert run(a, "git", "ls-remote", "origin").count("refs/lmadapt") == 0


def test_a_truncated_object_is_a_temporary_failure(
    agents: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = agents
    (a / "source.txt").write_text("1" * 1000)
    _, after_first = hand_over("first", commit(a), "runs/x", a, print)
    (stored,) = [one for one in (tmp_path / "store/files").rglob("*") if one.is_file()]
    whole = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(whole[:10])
    with pytest.raises(StageFailed, match="first comes before it") as caught:
        hand_over("second", after_first, "runs/x", b, print)
    assert caught.value.exit_code == 75
    assert not (b / "two.txt").exists()
    stored.write_bytes(whole)
    hand_over("second", after_first, "runs/x", b, print)
    assert (b / "two.txt").read_bytes() == whole
    assert (tmp_path / "ran.txt").read_text() == "first\nsecond\n"


def test_a_remote_that_does_not_answer_is_a_temporary_failure(
    agents: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = agents
    _, after_first = hand_over("first", run(a, "git", "rev-parse", "HEAD"), "runs/x", a, print)
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "store").touch()
    with pytest.raises(StageFailed) as caught:
        hand_over("second", after_first, "runs/x", b, print)
    assert caught.value.exit_code == 75
    (tmp_path / "store").unlink()
    (tmp_path / "away").rename(tmp_path / "store")
    assert hand_over("second", after_first, "runs/x", b, print)[0] == "ran"


def test_another_agent_gets_a_checkpoint_whole_or_not_at_all(
    agents: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = agents
    checkpoint = a / ".lmadapt/checkpoints/sft-0123/checkpoint-7"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"w" * 20_000)
    sent: set[str] = set()
    push_checkpoints(a, "runs/x", "sft", sent)
    assert not sent  # its sizes are not written yet
    (checkpoint / "sizes.json").write_text("{}")
    push_checkpoints(a, "runs/x", "sft", sent)
    (packed,) = (tmp_path / "store/checkpoints/runs/x/sft").iterdir()
    whole = packed.read_bytes()
    packed.write_bytes(whole[:5000])
    assert pull_checkpoints(b, "runs/x", "sft") == []
    packed.write_bytes(whole)
    assert pull_checkpoints(b, "runs/y", "sft") == []
    assert pull_checkpoints(b, "runs/x", "sft") == ["sft-0123/checkpoint-7"]
    assert (b / ".lmadapt/checkpoints/sft-0123/checkpoint-7/weights").read_bytes() == b"w" * 20_000
    checkpoint.rename(checkpoint.with_name("checkpoint-9"))
    push_checkpoints(a, "runs/x", "sft", sent)
    assert [one.name for one in packed.parent.iterdir()] == ["sft-0123.checkpoint-9.zip"]
