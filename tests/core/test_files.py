import os
import subprocess
from pathlib import Path
from socket import gethostname

import pytest

from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_file, atomic_folder, folder_sha256, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "metrics.json"
    target.write_text("old")

    def fail() -> None:
        with atomic_file(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_folder_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")

    def fail() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "weights").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert (target / "weights").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "stale").write_text("old")
    with atomic_folder(target) as temporary:
        (temporary / "weights").write_text("new")
    assert [file.name for file in target.iterdir()] == ["weights"]


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    dead, alive = f"{gethostname()}-{process.pid}", f"{gethostname()}-{os.getppid()}"
    for owner in (dead, alive, f"elsewhere-{process.pid}"):
        (tmp_path / f".model.{owner}.tmp").mkdir()
        (tmp_path / f".model.{owner}.tmp/half").touch()
    with atomic_folder(tmp_path / "model"):
        pass
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"model", f".model.{alive}.tmp", f".model.elsewhere-{process.pid}.tmp"}
    (tmp_path / f".a.json.{dead}.tmp").touch()
    write_json(tmp_path / "a.json", {})
    assert not (tmp_path / f".a.json.{dead}.tmp").exists()


def test_equal_content_gives_an_equal_file_in_any_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1, "y": "é"})
    write_json(tmp_path / "b.json", {"y": "é", "x": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_not_a_number_is_refused_in_metrics(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_broken_json_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n "a": 1,\n b}')
    with pytest.raises(UserError, match=r"a\.json:3: not valid JSON"):
        read_json(tmp_path / "a.json")


def test_a_folder_hash_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    hashes = []
    for name, file, content in [("a", "w", "1"), ("b", "w", "1"), ("c", "v", "1"), ("d", "w", "2")]:
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / file).write_text(content)
        hashes.append(folder_sha256(tmp_path / name))
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
