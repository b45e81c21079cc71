"""Read files that DVC stored, by their MD5, from its cache or a remote that fsspec can open."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lmadapt.core.errors import UserError

OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
SCHEMES = {  # of DVC's remotes, as fsspec spells them
    *("file", "memory", "s3", "gs", "gcs", "az", "abfs", "adl", "azure", "oss", "gdrive"),
    *("ssh", "sftp", "hdfs", "webhdfs", "http", "https", "webdav", "webdavs"),
}


def store_addresses(project: Path) -> list[str]:
    """Return the folders that hold DVC's objects (`files/md5/…`).

    The cache comes first, then the default remote. Without DVC in `project` the list is empty.
    """
    from dvc.config import NoRemoteError
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    addresses = []
    try:
        repo = Repo(str(project))
        addresses.append(str(Path(repo.cache.local.path).parent.parent))
        remote = repo.cloud.get_remote()
        addresses.append(remote.fs.unstrip_protocol(remote.path))
    except (NotDvcRepoError, NoRemoteError):
        pass
    return addresses


def fetch(
    md5: str | None,
    stores: Sequence[str],
    target: Path,
    only: Callable[[str], bool] = lambda _: True,
) -> None:
    """Put the stored file at `target`; of a stored folder (`….dir`), the files that pass `only`.

    `only` gets a file's path inside the folder. Files are linked where the store is local, else
    copied. An object whose content does not have the MD5 of its name counts as missing. Raises
    UserError when no store has the object, or when a stored path leads out of its folder.
    """
    if md5 and not OBJECT.fullmatch(md5):
        raise UserError(
            f"{md5!r} names no object of DVC; allowed: 32 hexadecimal digits, "
            "with .dir for a folder"
        )
    problem = "no DVC store has the object"
    for store in stores if md5 else ():
        files, root = _opened(store)
        stored = f"{root.rstrip('/')}/files/md5/{md5[:2]}/{md5[2:]}"  # type: ignore[index]
        if not files.isfile(stored):
            continue
        if stored.endswith(".dir"):
            listing = files.cat_file(stored)
            if f"{hashlib.md5(listing).hexdigest()}.dir" == md5:
                for path, object_md5 in _listed(listing, stored):
                    if only(path):
                        fetch(object_md5, stores, target / path)
                return
        elif _placed(files, stored, md5, target):
            return
        problem = f"{store} holds other content than its name says under the object"
    known = ", ".join(stores) or "none is recorded"
    raise UserError(f"{problem} {md5}; stores: {known}")


def _opened(store: str) -> tuple[Any, str]:
    """The file system of a store, and the store's folder in it.

    Raises UserError for addresses that no DVC remote has: some of fsspec's open other addresses.
    """
    from fsspec.core import url_to_fs

    scheme = store.partition("://")[0] if "://" in store else "file"
    if scheme not in SCHEMES or "::" in store:
        raise UserError(
            f"{store}: not the address of a DVC store; allowed: a folder, or an address that "
            f"starts with one of {', '.join(sorted(SCHEMES))}"
        )
    files, root = url_to_fs(store)
    return files, root


def _listed(listing: bytes, stored: str) -> list[tuple[str, str]]:
    """Path and MD5 of each file of a stored folder; UserError when a path leads out of it."""
    try:
        entries = [(str(one["relpath"]), str(one["md5"])) for one in json.loads(listing)]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{stored}: not DVC's list of a folder: {error}") from None
    for path, md5 in entries:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path:
            raise UserError(f"{stored}: the path {path!r} leads out of its folder; it is refused")
        if md5.endswith(".dir"):
            raise UserError(f"{stored}: {path!r} is a folder; DVC lists only files")
    return entries


def _placed(files: Any, stored: str, md5: str | None, target: Path) -> bool:
    """Put a stored file at `target` if its content has this MD5; whether it has."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if "file" in files.protocol:
        if file_md5(Path(stored)) != md5:
            return False
        target.symlink_to(stored)
        return True
    temporary = target.with_name(f".{target.name}.tmp")
    files.get_file(stored, str(temporary))
    if file_md5(temporary) != md5:
        temporary.unlink()
        return False
    temporary.replace(target)
    return True


def file_md5(source: Path) -> str:
    """The hexadecimal MD5 of a file's bytes, by which DVC names its objects."""
    with source.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
