"""Checkpoints on the disk: named by what they depend on, renamed when whole, looked at before they are continued."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from lmadapt.core.files import folder_sha256, write_json
from lmadapt.core.sections import Section
from lmadapt.training.distributed import processes
from lmadapt.training.packing import Row

log = logging.getLogger(__name__)

SIZES = "sizes.json"  # of its files in bytes; written last


def fingerprint(
    params: Section, base: Path, rows: Sequence[Row], others: Sequence[Any] = ()
) -> str:
    """Of all that a training's result depends on, 16 hexadecimal digits; `others`: what else, by its `repr`."""
    settings = [params.model_dump(), folder_sha256(base), version("torch"), processes()]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for row in rows:
        digest.update(repr(list(row.items())).encode())
    digest.update(repr(list(others)).encode())
    return digest.hexdigest()[:16]


def replace_checkpoints(folder: Path, writing: Path | None) -> None:
    """Move the checkpoint in `writing`, if there is one, to `folder` once it is on the disk; then remove older ones."""
    older = list(folder.glob("checkpoint-*"))
    fresh = list(writing.glob("checkpoint-*")) if writing else []
    for one in fresh:
        write_json(one / SIZES, _flushed_sizes(one))
        one.rename(folder / one.name)
    for outdated in older if fresh else []:
        shutil.rmtree(outdated)


def _flushed_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file below `folder` but SIZES, once they are on the disk: a rename may get there before them."""
    sizes = {}
    for file in folder.rglob("*"):
        if file.is_file() and file.name != SIZES:
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            sizes[file.relative_to(folder).as_posix()] = file.stat().st_size
    return sizes


def newest_whole(checkpoints: Path) -> str | None:
    """The newest checkpoint all of whose files are there at their sizes, as the main process sees it.

    Others are removed with a warning.
    """
    found: list[str | None] = [
        _newest_whole(checkpoints) if PartialState().is_main_process else None
    ]
    (agreed,) = broadcast_object_list(found)
    return str(agreed) if agreed else None


def _newest_whole(checkpoints: Path) -> str | None:
    for folder in sorted(
        checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name[11:]), reverse=True
    ):
        if (folder / SIZES).is_file() and json.loads(
            (folder / SIZES).read_text()
        ) == _flushed_sizes(folder):
            return str(folder)
        log.warning(
            "%s is not whole: it is removed, and training begins at an older one or anew", folder
        )
        shutil.rmtree(folder)
    return None
