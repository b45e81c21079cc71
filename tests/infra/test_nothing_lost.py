"""No command of the Makefile or of the servers deletes data."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra import servers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def initdb(monkeypatch: pytest.MonkeyPatch) -> None:
    """An initdb that writes only the file by which PostgreSQL knows a cluster."""

    def run(command: list[Any], **_: Any) -> None:
        (command[command.index("-D") + 1] / "PG_VERSION").write_text("17")

    monkeypatch.setattr(servers, "program", lambda name: name)
    monkeypatch.setattr(servers.subprocess, "run", run)


@pytest.mark.usefixtures("initdb")
def test_a_cluster_whose_password_is_missing_is_kept_and_the_start_refused(tmp_path: Path) -> None:
    servers.make_cluster(tmp_path, {})
    (tmp_path / "data/table").write_text("rows")
    (tmp_path / "password").unlink()
    with pytest.raises(SystemExit, match=r"password, is missing; nothing was changed"):
        servers.make_cluster(tmp_path, {})
    assert (tmp_path / "data/table").read_text() == "rows"


@pytest.mark.usefixtures("initdb")
def test_a_cluster_keeps_its_password(tmp_path: Path) -> None:
    password = servers.make_cluster(tmp_path, {})
    assert servers.make_cluster(tmp_path, {}) == password
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("initdb")
def test_a_start_killed_before_the_cluster_was_whole_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", kill)
        with pytest.raises(KeyboardInterrupt):
            servers.make_cluster(tmp_path, {})
    assert not (tmp_path / "data").exists()
    password = servers.make_cluster(tmp_path, {})
    assert (tmp_path / "data/PG_VERSION").is_file()
    assert (tmp_path / "password").read_text() == password


def test_make_clean_keeps_the_databases_and_passwords_of_the_servers(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("/.lmadapt/\n")
    for name in ("servers/password", "servers/data/table", "runs/sft.json"):
        (tmp_path / ".lmadapt" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".lmadapt" / name).write_text("x")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    kept = {file.name for file in (tmp_path / ".lmadapt").rglob("*") if file.is_file()}
    assert kept == {"password", "table"}
