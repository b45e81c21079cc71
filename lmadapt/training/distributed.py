"""Training on several devices: accelerate runs the stage's command again, a process per device."""

import copy
import logging
import os
import signal
import sys
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import torch
from accelerate import PartialState
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from lmadapt.core.errors import UserError
from lmadapt.core.sections import read_params
from lmadapt.models.chat import IGNORED
from lmadapt.training.packing import DOMAIN, PackedRow
from lmadapt.training.params import TrainingParams

SIGNALS = (signal.SIGTERM, signal.SIGINT)
NEED_WHOLE_MODEL = (  # settings that do nothing at 0, and need the whole model on each device
    "kl_weight",
    "l2_sp_weight",
    "ewc_weight",
    "si_weight",
    "heldout_every_steps",
)
UNLABELLED: PackedRow = {
    "input_ids": [0, 0],
    "labels": [IGNORED] * 2,
    "position_ids": [0, 1],
    "sources": [DOMAIN] * 2,
}


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def sharded() -> bool:
    """Whether each process holds only a part of the model (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def launch(stage: str, params: TrainingParams) -> None:
    """Run this command again under `accelerate launch`, and exit with its code.

    `params.accelerate_config` is its config file. Do nothing without one, and in the processes that
    accelerate launched. SIGTERM and SIGINT go to each of these processes, so that they write a
    checkpoint together; accelerate's launcher alone would not wait for it.

    Raises UserError, before a process starts, for a missing config and for `params` that its
    devices cannot follow.
    """
    launched_by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    config = params.accelerate_config
    if launched_by_accelerate:
        main = os.environ.get("RANK", "0") == "0"
        logging.disable(logging.NOTSET if main else logging.WARNING)
    elif config is not None:
        if not Path(config).is_file():
            raise UserError(
                f"{stage}.accelerate_config: no such file: {config}; "
                "allowed: null, or a config file of `accelerate`"
            )
        devices = read_params(Path(config))
        check_devices(
            stage,
            params,
            count=int(devices.get("num_processes") or 1),
            in_parts=devices.get("distributed_type") == "FSDP",
        )
        sys.exit(_launch(["--config_file", config, "--module", f"stages.{stage}", *sys.argv[1:]]))


def check_devices(stage: str, params: TrainingParams, *, count: int, in_parts: bool) -> None:
    """Raise UserError where `count` processes cannot train as `params` of `stage` say.

    in_parts: whether each holds only a part of the model.
    """
    used = [name for name in NEED_WHOLE_MODEL if getattr(params, name)]
    if in_parts and used:
        raise UserError(
            f"{stage}.{used[0]} needs the whole model on each device, which FSDP does not keep; "
            "allowed: 0"
        )
    rows_of_process(params.rows_per_step, count)


def _launch(arguments: list[str]) -> int:
    """Run accelerate's launcher in this process; return the exit code as a shell states it."""
    import psutil
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    def pass_on(number: int, frame: Any) -> None:
        for process in psutil.Process().children():
            process.send_signal(number)

    # Else torch's launcher handles SIGTERM itself, and kills the processes after 30 seconds.
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGQUIT"
    earlier = {number: signal.signal(number, pass_on) for number in SIGNALS}
    code = 0
    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as error:
        code = int(error.get_first_failure()[1].exitcode)
    except CalledProcessError as error:
        code = int(error.returncode)
    for number, handler in earlier.items():
        signal.signal(number, handler)
    return code if code >= 0 else 128 - code  # below 0 it is the number of a signal


def move_parameters(model: Any) -> Any:
    """A copy of the model that takes over its parameters, to be sharded.

    The parameters of `model` itself stay on the device "meta", without content, until
    `gather_parameters` fills them.
    """
    tensors = [*model.parameters(), *model.buffers()]
    working = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    empty = {
        id(tensor): Parameter(tensor.to("meta"), tensor.requires_grad)
        for tensor in model.parameters()
    }
    for module in model.modules():
        for name, tensor in module._parameters.items():
            if tensor is not None:
                module._parameters[name] = empty[id(tensor)]
    return working


def gather_parameters(working: Any, model: Any) -> None:
    """Copy the parameters of a sharded model into `model` of the main process, on the CPU."""
    main = PartialState().is_main_process
    gathered = {}
    for name, tensor in working.named_parameters():
        content = whole_tensor(tensor)  # all processes take part
        if main:
            gathered[name] = content.cpu()
    if main:
        model.load_state_dict(gathered, strict=False, assign=True)
        model.tie_weights()


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor of which each process may hold a part; all processes must call this."""
    return tensor.detach().full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def fill_last_pass(rows: list[PackedRow], rows_together: int) -> list[PackedRow]:
    """The rows, filled up with rows without loss to a multiple of `rows_together`.

    `rows_together` rows go through the model at once, on all devices together.
    """
    return rows + [UNLABELLED] * (-len(rows) % rows_together)


def rows_of_process(rows_per_step: int, count: int) -> int:
    """Rows of an optimiser step for each of `count` processes; UserError for unequal shares."""
    if rows_per_step % count:
        raise UserError(
            f"batch_tokens: {rows_per_step} rows of max_sequence_tokens a step cannot be shared by "
            f"{count} processes; allowed: multiples of {count} x max_sequence_tokens"
        )
    return rows_per_step // count
