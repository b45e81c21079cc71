"""What a DVC store hands out is checked before it is placed."""

from pathlib import Path

import fsspec
import pytest
from dvc.repo import Repo

from lmadapt.core.dvc_store import fetch, store_addresses
from lmadapt.core.errors import UserError
from tests.stored_objects import store_folder, store_object, stored


@pytest.mark.parametrize("path", ["/{outside}", "../../outside", "inner/../../../outside", ""])
def test_a_path_that_leads_out_of_its_folder_is_refused(tmp_path: Path, path: str) -> None:
    path = path.replace("/{outside}", str(tmp_path / "outside"))
    md5 = store_folder(tmp_path / "store", {"kept": "1", path: "hostile"})
    target = tmp_path / "a/b"
    with pytest.raises(UserError, match="leads out of its folder"):
        fetch(md5, [str(tmp_path / "store")], target)
    assert not list(tmp_path.rglob("outside"))
    assert not target.exists()


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_content_without_the_md5_of_its_name_is_never_placed(tmp_path: Path, kind: str) -> None:
    store, address = tmp_path / "store", str(tmp_path / "store")
    md5 = store_object(store, b"true")
    stored(store, md5).write_text("false")
    if kind == "memory":
        address = f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").put(str(store), f"/{tmp_path.name}", recursive=True)
    with pytest.raises(UserError, match="holds other content than its name says"):
        fetch(md5, [address], tmp_path / "out/file")
    assert not list((tmp_path / "out").iterdir())


def test_a_changed_list_of_a_folder_is_never_read(tmp_path: Path) -> None:
    store = tmp_path / "store"
    md5, other = (store_folder(store, {"name": text}) for text in ("true", "false"))
    stored(store, md5).write_bytes(stored(store, other).read_bytes())
    with pytest.raises(UserError, match="holds other content than its name says"):
        fetch(md5, [str(store)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_next_store_replaces_one_with_changed_content(tmp_path: Path) -> None:
    for name in ("broken", "good"):
        md5 = store_object(tmp_path / name, b"true")
    stored(tmp_path / "broken", md5).write_text("false")
    fetch(md5, [str(tmp_path / "broken"), str(tmp_path / "good")], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "true"


@pytest.mark.parametrize("md5", ["../../../etc/passwd", "aa11", "A" * 32])
def test_an_object_is_named_by_hexadecimal_digits_only(tmp_path: Path, md5: str) -> None:
    with pytest.raises(UserError, match="names no object of DVC; allowed: 32 hexadecimal digits"):
        fetch(md5, [str(tmp_path)], tmp_path / "file")


@pytest.mark.parametrize("store", ["reference://x", "filecache::s3://bucket", "github://a:b@/"])
def test_an_address_that_no_dvc_remote_has_is_not_opened(tmp_path: Path, store: str) -> None:
    with pytest.raises(UserError, match="not the address of a DVC store"):
        fetch("0" * 32, [store], tmp_path / "file")


def test_a_folder_that_dvc_itself_stored_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "data/inner").mkdir(parents=True)
    for name in ("b", "a", "inner/ä"):
        (tmp_path / "data" / name).write_text(name)
    repo = Repo.init(str(tmp_path), no_scm=True)
    repo.add(str(tmp_path / "data"))
    repo.close()
    md5 = (tmp_path / "data.dvc").read_text().split("md5: ")[1].split()[0]
    fetch(md5, store_addresses(tmp_path), tmp_path / "out")
    assert (tmp_path / "out/inner/ä").read_text() == "inner/ä"
