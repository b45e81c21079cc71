"""A base model by reference: where it was, what it was, and how to get exactly it back from DVC's cache."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lmadapt.errors import UserError
from lmadapt.files import atomic_folder, folder_sha256


@dataclass(frozen=True)
class BaseReference:
    """A model folder by content; the two last are None where the folder is not tracked by DVC."""

    base_folder: str  # absolute
    base_sha256: str  # files.folder_sha256 of it
    base_dvc_md5: str | None = None  # as in dvc.lock, "….dir"
    dvc_cache: str | None = None  # absolute; the folder that holds files/md5


def locate_base(reference: BaseReference) -> Path:
    """The folder with exactly the referenced model: the original, else one restored from DVC's cache.

    Restoring costs no space: the files are links into the cache, in a private folder for temporary files.
    Raises UserError when neither holds the content with the right SHA-256.
    """
    folder = Path(reference.base_folder)
    if folder.is_dir() and folder_sha256(folder) == reference.base_sha256:
        return folder
    restored = _restored_folder(reference)
    if restored.is_dir() and folder_sha256(restored) == reference.base_sha256:
        return restored
    if _restore(reference, restored) and folder_sha256(restored) == reference.base_sha256:
        return restored
    shutil.rmtree(restored, ignore_errors=True)
    state = "has changed since" if folder.is_dir() else "is gone"
    raise UserError(
        f"{folder}: the base model of this version (SHA-256 {reference.base_sha256[:16]}…) {state}, and DVC's cache "
        f"{reference.dvc_cache or '(none recorded)'} does not hold {reference.base_dvc_md5 or 'it'}; in the project, "
        "check out the commit in the version's tag git_commit and run `dvc repro` (on another machine "
        "`dvc repro --pull`), or give the folder of a copy: "
        "load_model(…, model_config={'base_folder': …})"
    )


def _restored_folder(reference: BaseReference) -> Path:
    private = Path(tempfile.gettempdir()) / f"lmadapt-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    return private / f"base-{reference.base_sha256[:16]}"


def _restore(reference: BaseReference, target: Path) -> bool:
    """Link the files of DVC's folder entry, JSON of md5 and relpath, into `target`; False when one is missing."""
    if not reference.base_dvc_md5 or not reference.dvc_cache:
        return False
    objects = Path(reference.dvc_cache) / "files" / "md5"
    listing = objects / reference.base_dvc_md5[:2] / reference.base_dvc_md5[2:]
    if not listing.is_file():
        return False
    entries = {
        entry["relpath"]: objects / entry["md5"][:2] / entry["md5"][2:] for entry in json.loads(listing.read_text())
    }
    if not all(cached.is_file() for cached in entries.values()):
        return False
    with atomic_folder(target) as temporary:
        for name, cached in entries.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).symlink_to(cached)
    return True
