"""Read files that DVC stored, by their MD5, from its cache or a remote that fsspec can open."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from lmadapt.core.errors import UserError


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
    copied. Raises UserError when no store has the object.
    """
    from fsspec.core import url_to_fs

    for store in stores if md5 else ():
        files, root = url_to_fs(store)
        stored = f"{root.rstrip('/')}/files/md5/{md5[:2]}/{md5[2:]}"  # type: ignore[index]
        if not files.exists(stored):
            continue
        if stored.endswith(".dir"):
            for entry in json.loads(files.cat_file(stored)):
                if only(entry["relpath"]):
                    fetch(entry["md5"], stores, target / entry["relpath"])
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if "file" in files.protocol:
            target.symlink_to(stored)
        else:
            files.get_file(stored, str(target))
        return
    known = ", ".join(stores) or "none is recorded"
    raise UserError(f"no DVC store has the object {md5}; stores: {known}")
