"""A base model by reference: where it was, what it was, and how to get exactly it back."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmadapt.dvc_store import fetch_folder
from lmadapt.errors import UserError
from lmadapt.files import atomic_folder, folder_sha256

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
    restored = private_folder() / f"base-{reference.base_sha256[:16]}"
    for found in (folder, restored):
        if found.is_dir() and folder_sha256(found) == reference.base_sha256:
            return found
    problem = "it is not tracked by DVC"
    try:
        if reference.base_dvc_md5:
            with atomic_folder(restored) as temporary:
                fetch_folder(reference.base_dvc_md5, reference.dvc_stores, temporary)
            if folder_sha256(restored) == reference.base_sha256:
                return restored
            problem = f"DVC's object {reference.base_dvc_md5} has changed"
    except UserError as error:
        problem = str(error)
    shutil.rmtree(restored, ignore_errors=True)
    state = "has changed since" if folder.is_dir() else "is gone"
    raise UserError(
        f"{folder}: the base model of this version (SHA-256 {reference.base_sha256[:16]}…) {state}, and {problem}; in "
        "the project, check out the commit in the version's tag git_commit and run `dvc repro` (on another machine "
        f"`dvc repro --pull`), or name the folder of a copy in {BASE_VARIABLE}"
    )


def link_together(shipped: Path, base: Path, target: Path) -> None:
    """Fill the empty folder `target` with links to base and adapter: a folder that transformers and servers load."""
    link_files([*base.iterdir(), *shipped.iterdir()], target)
    config = json.loads((shipped / "adapter_config.json").read_text(encoding="utf-8"))
    (target / "adapter_config.json").unlink()
    config["base_model_name_or_path"] = str(base)
    (target / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def link_files(files: Iterable[Path], target: Path) -> None:
    """Link files into `target` by their names; a later one takes the place of an earlier one."""
    for file in files:
        (target / file.name).unlink(missing_ok=True)
        (target / file.name).symlink_to(file.resolve())


def private_folder() -> Path:
    """A folder for temporary files that only this user can read."""
    private = Path(tempfile.gettempdir()) / f"lmadapt-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    return private
