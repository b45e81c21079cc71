"""A base model by reference: where it was, what it was, and how to get exactly it back."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmadapt.core.dvc_store import fetch
from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_folder, folder_sha256

BASE_VARIABLE = "LMADAPT_BASE_FOLDER"


@dataclass(frozen=True)
class BaseReference:
    """A model folder by content."""

    base_folder: str  # absolute
    base_sha256: str  # files.folder_sha256 of it
    base_dvc_md5: str | None = None  # as in dvc.lock, "….dir"; None where DVC does not track it
    dvc_stores: Sequence[str] = ()  # dvc_store.store_addresses, tried in this order


def locate_base(reference: BaseReference) -> Path:
    """The folder with exactly the referenced model.

    It is the one named by LMADAPT_BASE_FOLDER, or where it was registered from, or restored from DVC's cache or
    remote into a private folder for temporary files (links, where the store is local). Raises UserError when none of
    these holds the content with the right SHA-256.
    """
    folder = Path(os.environ.get(BASE_VARIABLE) or reference.base_folder)
    private = Path(tempfile.gettempdir()) / f"lmadapt-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    restored = private / f"base-{reference.base_sha256[:16]}"
    for found in (folder, restored):
        if found.is_dir() and folder_sha256(found) == reference.base_sha256:
            return found
    problem = f"what DVC keeps as {reference.base_dvc_md5} is not that"
    try:
        with atomic_folder(restored) as temporary:
            fetch(reference.base_dvc_md5, reference.dvc_stores, temporary)
        if folder_sha256(restored) == reference.base_sha256:
            return restored
    except UserError as error:
        problem = str(error)
    shutil.rmtree(restored, ignore_errors=True)
    state = "has changed since" if folder.is_dir() else "is gone"
    raise UserError(
        f"{folder}: the base model of this version (SHA-256 {reference.base_sha256[:16]}…) {state}; {problem}. In the "
        "project, check out the commit in the version's tag git_commit and run `dvc repro` (on another machine "
        f"`dvc repro --pull`), or name the folder of a copy in {BASE_VARIABLE}"
    )
