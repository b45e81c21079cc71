"""Checkpoints: when one is due, where it lies, and whether it is whole."""

import hashlib
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from lmadapt.core.files import folder_sha256, write_json
from lmadapt.core.sections import Section
from lmadapt.training.distributed import processes
from lmadapt.training.packing import PackedRow

log = logging.getLogger(__name__)

CHECKPOINTS = Path(".lmadapt/checkpoints")
CHECKPOINT_NOW = Path(".lmadapt/checkpoint-now")  # a user makes it to ask for a checkpoint
SIZES = "sizes.json"  # bytes of each file of a checkpoint; written last
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class CheckpointTimer(TrainerCallback):
    """Ask for a checkpoint every `minutes`, when CHECKPOINT_NOW appears, and on a signal.

    After SIGTERM or SIGINT training stops at the end of the current step; `signal_number` is then
    the number of the signal, else 0.
    """

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.signal_number = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the clock and listen to signals, which Python allows in the main thread only."""
        self.saved = time.monotonic()
        self.earlier_handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.earlier_handlers[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        self.signal_number = number

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Ask for a checkpoint where one is due; after the last step none is needed."""
        due = CHECKPOINT_NOW.exists() or time.monotonic() - self.saved >= self.seconds
        if torch.distributed.is_initialized():  # all processes act after the same step
            heard = torch.tensor([int(due), self.signal_number], device=args.device)
            torch.distributed.all_reduce(heard, torch.distributed.ReduceOp.MAX)
            due, self.signal_number = bool(heard[0]), int(heard[1])
        due = due or bool(self.signal_number)
        if due and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = bool(self.signal_number)
            CHECKPOINT_NOW.unlink(missing_ok=True)
            self.saved = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Restore the earlier signal handlers."""
        for number, handler in self.earlier_handlers.items():
            signal.signal(number, handler)


def checkpoint_folder(
    stage: str, params: Section, base: Path, rows: Sequence[PackedRow], others: Sequence[Any]
) -> Path:
    """The folder for the checkpoints of this training of `stage`, and of no other."""
    return CHECKPOINTS / f"{stage}-{fingerprint(params, base, rows, others)}"


def remove_checkpoints(stage: str) -> None:
    """Remove all checkpoints of the stage; call it once the stage has written its outputs."""
    for folder in CHECKPOINTS.glob(f"{stage}-*"):
        shutil.rmtree(folder)


def fingerprint(
    params: Section, base: Path, rows: Sequence[PackedRow], others: Sequence[Any] = ()
) -> str:
    """16 hexadecimal digits that change with whatever a training's result depends on.

    These are the settings, the files in `base`, the rows, the version of torch, the number of
    processes, and the `repr` of each of `others`.
    """
    settings = [params.model_dump(), folder_sha256(base), version("torch"), processes()]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for row in rows:
        digest.update(repr(list(row.items())).encode())
    digest.update(repr(list(others)).encode())
    return digest.hexdigest()[:16]


def replace_checkpoints(folder: Path, writing: Path | None) -> None:
    """Move the checkpoint in `writing` to `folder` once it is on the disk, then remove older ones.

    Without `writing`, or where it holds no checkpoint, the older ones stay.
    """
    older = list(folder.glob("checkpoint-*"))
    fresh = list(writing.glob("checkpoint-*")) if writing else []
    for checkpoint in fresh:
        write_json(checkpoint / SIZES, _flushed_sizes(checkpoint))
        checkpoint.rename(folder / checkpoint.name)
    if fresh:
        for checkpoint in older:
            shutil.rmtree(checkpoint)


def newest_whole(checkpoints: Path) -> str | None:
    """The newest checkpoint whose files all have their sizes, as the main process sees it.

    Broken checkpoints newer than it are removed with a warning.
    """
    found: list[str | None] = [None]
    if PartialState().is_main_process:
        found = [_newest_whole(checkpoints)]
    (agreed,) = broadcast_object_list(found)
    return str(agreed) if agreed else None


def _newest_whole(checkpoints: Path) -> str | None:
    for folder in sorted(checkpoints.glob("checkpoint-*"), key=_step, reverse=True):
        sizes = folder / SIZES
        if sizes.is_file() and json.loads(sizes.read_text()) == _flushed_sizes(folder):
            return str(folder)
        log.warning(
            "%s is not whole: it is removed, and training continues from an older one, or starts "
            "again",
            folder,
        )
        shutil.rmtree(folder)
    return None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _flushed_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file below `folder` except SIZES, flushed to the disk first.

    Without the flush, a power cut could keep the rename of the folder but lose its content.
    """
    sizes = {}
    for file in folder.rglob("*"):
        if file.is_file() and file.name != SIZES:
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            sizes[file.relative_to(folder).as_posix()] = file.stat().st_size
    return sizes
