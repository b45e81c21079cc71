import subprocess
import sys
from pathlib import Path

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


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM)
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


def test_an_error_is_one_message_without_a_traceback_and_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("copy:\n  sufix: '!'\n")
    wrong = call(tmp_path, "--source-file", "in", "--target", "out")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith(
        "copy stopped: params.yaml:2: copy.sufix: unknown key; did you mean `suffix`?"
    )
    assert "Traceback" not in wrong.stderr


def test_what_may_pass_on_a_second_try_exits_with_75(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("copy:\n  suffix: '!'\n")
    later = call(tmp_path, "--source-file", "in", "--target", "out")
    assert (later.returncode, later.stderr) == (75, "copy stopped: in: not there yet\n")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    assert "--target" in call(tmp_path, "--source-file", "in").stderr
