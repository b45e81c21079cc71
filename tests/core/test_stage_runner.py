import subprocess
import sys
from pathlib import Path

import pytest

from lmadapt.core.stage_runner import recorded_run

PROGRAM = """
from pathlib import Path
from lmadapt.core.errors import Unavailable
from lmadapt.core.sections import Section
from lmadapt.core.stage_runner import run

class CopyParams(Section):
    suffix: str

def copy(params: CopyParams, source_file: Path, target: Path) -> None:
    \"\"\"Copy a file.\"\"\"
    if not source_file.exists():
        raise Unavailable(f"{source_file}: not there yet")
    target.write_text(source_file.read_text() + params.suffix)

run(copy)
"""


def call(folder: Path, *arguments: str, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    return subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_stage_gets_its_section_and_its_paths(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("copy:\n  suffix: '!'\nother: {}\n")
    (tmp_path / "in").write_text("text")
    assert call(tmp_path, "--source-file", "in", "--target", "out").returncode == 0
    assert (tmp_path / "out").read_text() == "text!"


def test_a_stage_with_metrics_leaves_a_record_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text("copy:\n  suffix: '!'\n")
    (tmp_path / "in").write_text("text")
    program = PROGRAM.replace("target", "metrics")
    call(tmp_path, "--source-file", "in", "--metrics", "copy.json", program=program)
    monkeypatch.chdir(tmp_path)
    run = recorded_run("copy", Path("copy.json"))
    assert run is not None
    assert set(run) == {"seconds", "processor", "cores", "gpus", "peak_bytes"}
    assert run["peak_bytes"] > 1e6
    (tmp_path / "copy.json").write_text("written by another run")
    assert recorded_run("copy", Path("copy.json")) is None


def test_an_error_is_one_message_without_a_traceback_and_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("copy:\n  sufix: '!'\n")
    wrong = call(tmp_path, "--source-file", "in", "--target", "out")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith(
        "copy stopped: params.yaml:2: copy.sufix: unknown key; did you mean `suffix`?"
    )
    assert "Traceback" not in wrong.stderr


def test_a_fault_that_a_second_try_may_mend_exits_with_75(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("copy:\n  suffix: '!'\n")
    later = call(tmp_path, "--source-file", "in", "--target", "out")
    assert (later.returncode, later.stderr) == (75, "copy stopped: in: not there yet\n")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    assert "--target" in call(tmp_path, "--source-file", "in").stderr
