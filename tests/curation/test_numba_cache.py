"""Where numba keeps compiled code on machines whose code and home are read-only."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import numba
import pytest
from numba import config as imported_config

from lmadapt.curation.kernels.cache import ensure_cache

config: Any = imported_config


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nothing can be made, as home; below a file, so that it holds for root."""
    (tmp_path / "file").write_text("")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file/home"))
    return tmp_path / "file"


def test_without_a_writable_place_a_private_folder_keeps_compiled_code(
    read_only: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ensure_cache(read_only / "code")
    folder = Path(config.CACHE_DIR)
    assert folder.parent.parent == read_only.parent / "tmp"
    assert folder.parent.stat().st_mode & 0o077 == 0

    @numba.njit(cache=True)
    def twice(number):  # type: ignore[no-untyped-def]
        return 2 * number

    assert twice(2) == 4
    assert list(folder.rglob("*.nbi"))
    assert "takes about half a minute; set NUMBA_CACHE_DIR" in caplog.text


def test_a_writable_place_stays_in_use(read_only: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ensure_cache(read_only.parent / "code/__pycache__")
        assert config.CACHE_DIR == ""
        config.CACHE_DIR = str(read_only.parent / "own")
        ensure_cache(read_only / "code")
    assert str(read_only.parent / "own") == config.CACHE_DIR
    assert caplog.text == ""
