import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from lmadapt.core.errors import UserError
from lmadapt.core.files import folder_sha256
from lmadapt.registry.base_reference import BaseReference, locate_base
from tests.stored_objects import store_folder, stored


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BaseReference:
    """A folder of two files, also in a DVC cache."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, cache = tmp_path / "base", tmp_path / "cache"
    (folder / "inner").mkdir(parents=True)
    for name in ("config.json", "inner/weights"):
        (folder / name).write_text(name)
    md5 = store_folder(cache, {name: name for name in ("config.json", "inner/weights")})
    return BaseReference(str(folder), folder_sha256(folder), md5, [str(cache)])


def test_an_unchanged_base_is_used_where_it_is(reference: BaseReference) -> None:
    assert locate_base(reference) == Path(reference.base_folder)


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_a_base_that_is_not_there_any_more_comes_from_the_cache(
    reference: BaseReference, change: str
) -> None:
    if change == "gone":
        shutil.rmtree(reference.base_folder)
    else:
        (Path(reference.base_folder) / "config.json").write_text("other")
    restored = locate_base(reference)
    assert restored != Path(reference.base_folder)
    assert folder_sha256(restored) == reference.base_sha256
    assert (restored / "inner/weights").is_symlink()
    assert locate_base(reference) == restored


@pytest.mark.parametrize("damage", ["changed file", "missing file", "missing folder"])
def test_a_cache_that_lost_the_base_is_an_error_and_leaves_nothing(
    reference: BaseReference, tmp_path: Path, damage: str
) -> None:
    shutil.rmtree(reference.base_folder)
    cached = stored(tmp_path / "cache", hashlib.md5(b"inner/weights").hexdigest())
    listing = stored(tmp_path / "cache", str(reference.base_dvc_md5))
    if damage == "changed file":
        cached.write_text("other")
    else:
        (cached if damage == "missing file" else listing).unlink()
    with pytest.raises(
        UserError,
        match=r"base: the base model of this version .* is gone, and DVC .*`dvc repro --pull`",
    ):
        locate_base(reference)
    assert not list(tmp_path.glob("lmadapt-*/*"))


def test_a_base_outside_dvc_cannot_be_restored(reference: BaseReference) -> None:
    shutil.rmtree(reference.base_folder)
    with pytest.raises(UserError, match="none is recorded"):
        locate_base(BaseReference(reference.base_folder, reference.base_sha256))


def test_a_base_comes_from_a_remote_that_is_not_a_local_folder(
    reference: BaseReference, tmp_path: Path
) -> None:
    remote = fsspec.filesystem("memory")
    remote.put(str(tmp_path / "cache"), "/bucket/store", recursive=True)
    shutil.rmtree(reference.base_folder)
    shutil.rmtree(tmp_path / "cache")
    restored = locate_base(
        replace(reference, dvc_stores=[*reference.dvc_stores, "memory://bucket/store"])
    )
    assert folder_sha256(restored) == reference.base_sha256
    assert not (restored / "inner/weights").is_symlink()


def test_a_copy_named_in_the_environment_is_used_if_it_is_the_same(
    reference: BaseReference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(reference.base_folder).rename(tmp_path / "copy")
    monkeypatch.setenv("LMADAPT_BASE_FOLDER", str(copy))
    assert locate_base(reference) == copy
    (copy / "config.json").write_text("other")
    with pytest.raises(UserError, match=r"copy: the base model of this version .* has changed"):
        locate_base(replace(reference, dvc_stores=[]))
