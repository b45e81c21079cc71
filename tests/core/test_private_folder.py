"""Temporary files that are kept lie where no other account can put files."""

import os
import stat
from pathlib import Path

import pytest

from lmadapt.core import files
from lmadapt.core.files import private_folder


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folder is that processes of this account share."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"lmadapt-{os.getuid()}"


def test_the_private_folder_is_made_for_its_owner_alone_and_found_again(kept: Path) -> None:
    assert private_folder() == kept == private_folder()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


@pytest.mark.parametrize("planted", ["open to all", "link", "file"])
def test_a_folder_that_another_account_can_write_to_is_not_used(
    kept: Path, tmp_path: Path, planted: str
) -> None:
    if planted == "open to all":
        kept.mkdir()
        kept.chmod(0o777)
    elif planted == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        kept.symlink_to(tmp_path / "theirs")
    else:
        kept.touch()
    used = private_folder()
    assert used.parent == tmp_path
    assert used not in (kept, tmp_path / "theirs")
    assert stat.S_IMODE(used.stat().st_mode) == 0o700


def test_a_folder_that_another_account_owns_is_not_used(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.mkdir(mode=0o700)
    theirs = kept.rename(kept.with_name(f"lmadapt-{os.getuid() + 1}"))
    monkeypatch.setattr(files.os, "getuid", lambda: int(theirs.name[8:]))
    assert private_folder() != theirs
