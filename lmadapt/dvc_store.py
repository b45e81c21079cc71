"""Reading what DVC stored, by its MD5, without the project: from its cache, or a remote of any kind fsspec knows."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from lmadapt.errors import UserError


def store_addresses(project: Path) -> list[str]:
    """Folders that hold DVC's objects (`files/md5/…`): the project's cache, then its default remote; [] without DVC."""
    from dvc.config import NoRemoteError
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        repo = Repo(str(project))
        addresses = [str(Path(repo.cache.local.path).parent.parent)]
        remote = repo.cloud.get_remote()
        return [*addresses, remote.fs.unstrip_protocol(remote.path)]
    except NotDvcRepoError:
        return []
    except NoRemoteError:
        return addresses


def fetch_file(md5: str, stores: Sequence[str], target: Path) -> None:
    """Put the stored file at `target`: a link where a store is local, else a copy.

    Raises UserError when no store has it.
    """
    from fsspec.core import url_to_fs

    for store in stores:
        files, root = url_to_fs(store)
        stored = f"{root.rstrip('/')}/files/md5/{md5[:2]}/{md5[2:]}"
        if not files.exists(stored):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if "file" in files.protocol:
            target.symlink_to(stored)
        else:
            files.get_file(stored, str(target))
        return
    raise UserError(f"DVC's object {md5} is in none of its stores: {', '.join(stores) or 'none recorded'}")


def fetch_folder(
    md5: str, stores: Sequence[str], target: Path, *, only: Callable[[str], bool] = lambda name: True
) -> None:
    """Put the files of a stored folder, whose MD5 ends in `.dir`, below `target`: those whose names pass `only`.

    Raises UserError as `fetch_file` does.
    """
    listing = target / f"{md5}.json"
    fetch_file(md5, stores, listing)
    entries = json.loads(listing.read_text(encoding="utf-8"))
    listing.unlink()
    for entry in filter(lambda entry: only(entry["relpath"]), entries):
        fetch_file(entry["md5"], stores, target / entry["relpath"])
