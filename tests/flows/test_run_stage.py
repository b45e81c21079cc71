import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.run_stage import StageFailed, run_stage

ROOT = Path(__file__).parents[2]
GRAPH = """
stages:
  first:
    cmd: echo a live line && cp source.txt one.txt
    deps: [source.txt]
    outs: [one.txt]
  second:
    cmd: cat one.txt > two.txt
    deps: [one.txt]
    outs: [two.txt]
  busy:
    cmd: echo not now && exit 75
  broken:
    cmd: exit 3
  slow:
    cmd: sleep 321 & echo $! > slow.pid; wait
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dvc")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "source.txt").write_text("1")
    for command in (["init", "-q", "--no-scm"], ["config", "core.analytics", "false"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def project(tmp_path: Path, template: Path) -> Path:
    subprocess.run(["cp", "-r", f"{template}/.", str(tmp_path)], check=True)
    return tmp_path


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pid_of_slow(project: Path) -> int:
    file = project / "slow.pid"
    assert wait_for(lambda: file.is_file() and file.read_text().strip() != "")
    return int(file.read_text())


def test_a_stage_ran_is_unchanged_or_restored_from_cache(project: Path) -> None:
    lines: list[str] = []
    assert run_stage("second", project, lines.append) == {"first": "ran", "second": "ran"}
    assert "a live line" in lines
    assert run_stage("second", project, lines.append) == {
        "first": "unchanged",
        "second": "unchanged",
    }
    (project / "dvc.lock").unlink()
    restored = "restored from cache"
    assert run_stage("second", project, lines.append) == {"first": restored, "second": restored}


@pytest.mark.parametrize(("stage", "exit_code"), [("busy", 75), ("broken", 3)])
def test_a_failure_has_the_exit_code_of_its_stage(
    project: Path, stage: str, exit_code: int
) -> None:
    with pytest.raises(StageFailed) as caught:
        run_stage(stage, project, print)
    assert (caught.value.stage, caught.value.exit_code) == (stage, exit_code)
    said = f"stage {stage} failed with exit code {exit_code}: ERROR: failed to reproduce"
    assert said in str(caught.value)


def test_an_unknown_stage_fails_with_dvc_s_message(project: Path) -> None:
    with pytest.raises(StageFailed, match="nothere") as caught:
        run_stage("nothere", project, print)
    assert caught.value.exit_code == 255


def test_an_exception_during_a_stage_ends_all_its_processes(project: Path) -> None:
    def interrupt(line: str) -> None:
        if "sleep 321" in line:
            pid_of_slow(project)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage("slow", project, interrupt)
    assert not running(pid_of_slow(project))


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_parent_s_death_ends_all_processes_of_a_stage(project: Path) -> None:
    program = (
        "from pathlib import Path; from flows.run_stage import run_stage;"
        "run_stage('slow', Path.cwd(), print)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    slow = pid_of_slow(project)
    assert running(slow)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: not running(slow))


def test_a_stage_that_ignores_sigterm_is_killed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(321)"
    )
    supervisor = (
        "import flows.supervise as s, sys, os; s.GRACE_SECONDS = 0.3;"
        "sys.exit(s.supervise(os.getppid(), sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", supervisor, sys.executable, "-c", stubborn],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=project,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    assert process.stdout.read() == ""  # end of file: no process holds the pipe


def test_stages_run_the_python_of_the_flow(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages:\n  which:\n    cmd: command -v python\n")
    lines: list[str] = []
    run_stage("which", project, lines.append)
    assert str(Path(sys.executable).parent / "python") in lines
