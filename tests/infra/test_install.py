"""`make install`, killed at any step, never touches another Python and is repeated whole."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTER_PIP = '#!/bin/sh\necho "outer pip $*" >> "$LOG"\n'
# Does what `python -m venv --clear` does to files, and makes a python that logs what it is asked.
OUTER_PYTHON = """#!/bin/sh
echo "outer python $*" >> "$LOG"
case "$*" in
"-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$INNER" .venv/bin/python;;
"-m venv .venv") mkdir -p .venv/bin; cp "$INNER" .venv/bin/python;;
esac
"""
INNER_PYTHON = """#!/bin/sh
echo "inner python $*" >> "$LOG"
case "$*" in *"$FAILS"*) kill -9 $PPID;; esac
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose .venv is half made: it has a python, and neither pip nor the stamp."""
    outer, project = tmp_path / "outer", tmp_path / "project"
    (project / ".venv/bin").mkdir(parents=True)
    outer.mkdir()
    for file, text in (
        (outer / "pip", OUTER_PIP),
        (outer / "python3", OUTER_PYTHON),
        (tmp_path / "inner", INNER_PYTHON),
        (project / ".venv/bin/python", INNER_PYTHON),
    ):
        file.write_text(text)
        file.chmod(0o755)
    shutil.copy(ROOT / "Makefile", project)
    for name in ("requirements.lock", "pyproject.toml"):
        (project / name).touch()
    (project / ".venv/left").touch()
    monkeypatch.setenv("PATH", f"{outer}:{os.environ['PATH']}")
    monkeypatch.setenv("INNER", str(tmp_path / "inner"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return project


def install(project: Path, fails: str = "nothing") -> tuple[int, str]:
    """The exit code of `make install` and what the programs were asked."""
    command = ["make", "install", f"PYTHON={project.parent / 'outer/python3'}"]
    environment = os.environ | {"FAILS": fails}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, check=False)
    return done.returncode, Path(os.environ["LOG"]).read_text()


def test_a_half_made_environment_is_made_again_and_the_outer_pip_never_called(
    project: Path,
) -> None:
    code, asked = install(project)
    assert code == 0
    assert "outer pip" not in asked
    assert "inner python -m pip install --quiet --no-compile --requirement" in asked
    assert not (project / ".venv/left").exists()
    assert (project / ".venv/installed").is_file()


@pytest.mark.parametrize("step", ["--requirement", "--editable"])
def test_an_install_that_is_killed_leaves_no_stamp_and_is_repeated(
    project: Path, step: str
) -> None:
    code, _ = install(project, fails=step)
    assert code != 0
    assert not (project / ".venv/installed").exists()
    assert install(project)[0] == 0
    assert (project / ".venv/installed").is_file()
