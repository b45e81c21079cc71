"""Refers to a base model by content, and finds exactly that model again."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmadapt.core.dvc_store import fetch
from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_folder, folder_sha256, private_folder

BASE_VARIABLE = "LMADAPT_BASE_FOLDER"


@dataclass(frozen=True)
class BaseReference:
    """A model folder, by content."""

    base_folder: str  # absolute
    base_sha256: str  # core.files.folder_sha256 of it
    base_dvc_md5: str | None = None  # as in dvc.lock, with .dir; None when DVC does not track it
    dvc_stores: Sequence[str] = ()  # core.dvc_store.store_addresses, tried in this order


def locate_base(reference: BaseReference) -> Path:
    """A folder with exactly the referenced model.

    Tried in this order: the folder that LMADAPT_BASE_FOLDER names, or else the one the version was
    registered from; then DVC's cache and remote, restored to a private temporary folder (as links
    when the store is local). Raises UserError when none of them holds the content with the right
    SHA-256.
    """
    folder = Path(os.environ.get(BASE_VARIABLE) or reference.base_folder)
    restored = private_folder() / f"base-{reference.base_sha256[:16]}"
    for found in (folder, restored):
        if found.is_dir() and folder_sha256(found) == reference.base_sha256:
            return found
    problem = _restore(reference, restored)
    if not problem:
        return restored
    state = "has changed since" if folder.is_dir() else "is gone"
    raise UserError(
        f"{folder}: the base model of this version (SHA-256 {reference.base_sha256[:16]}…) "
        f"{state}, and DVC cannot restore it: {problem}. Either check out the commit in the "
        "version's tag git_commit and run `dvc repro` in the project (on another machine "
        f"`dvc repro --pull`), or set {BASE_VARIABLE} to a folder with a copy"
    )


def _restore(reference: BaseReference, target: Path) -> str:
    """Restore the base from DVC to `target`; why that failed, or "" when it succeeded."""
    try:
        with atomic_folder(target) as temporary:
            fetch(reference.base_dvc_md5, reference.dvc_stores, temporary)
        if folder_sha256(target) == reference.base_sha256:
            return ""
        problem = f"its object {reference.base_dvc_md5} has another content"
    except UserError as error:
        problem = str(error)
    shutil.rmtree(target, ignore_errors=True)
    return problem
