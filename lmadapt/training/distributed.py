"""Training on more than one device: the stage's command run again by accelerate, one process a device."""

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
from lmadapt.models.chat import IGNORED
from lmadapt.training.packing import DOMAIN, Row

SIGNALS = (signal.SIGTERM, signal.SIGINT)
UNLABELLED: Row = {
    "input_ids": [0, 0],
    "labels": [IGNORED] * 2,
    "position_ids": [0, 1],
    "sources": [DOMAIN] * 2,
}


def processes() -> int:
    """How many train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def sharded() -> bool:
    """Whether each of them holds a part of the model only (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def launch(stage: str, config: str | None) -> None:
    """Run this command again under `accelerate launch --config_file config`, and exit as it does.

    Nothing where there is no config, and in the processes that accelerate launched. SIGTERM and SIGINT are handed on
    to each of them: they write a checkpoint together, for which the launcher itself would not wait.
    """
    if (
        "ACCELERATE_MIXED_PRECISION" in os.environ
    ):  # which accelerate sets in each process it launches
        logging.disable(logging.NOTSET if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    elif config is not None:
        if not Path(config).is_file():
            raise UserError(
                f"{stage}.accelerate_config: no such file: {config}; allowed: null, or one of `accelerate`"
            )
        sys.exit(_launched(["--config_file", config, "--module", f"stages.{stage}", *sys.argv[1:]]))


def _launched(arguments: list[str]) -> int:
    import psutil
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    def hand_on(number: int, frame: Any) -> None:
        for process in psutil.Process().children():
            process.send_signal(number)

    os.environ["PET_SIGNALS_TO_HANDLE"] = (
        "SIGQUIT"  # of torch's launcher; else it kills after half a minute
    )
    before = {one: signal.signal(one, hand_on) for one in SIGNALS}
    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as error:
        code = int(error.get_first_failure()[1].exitcode)
    except CalledProcessError as error:
        code = int(error.returncode)
    else:
        code = 0
    for number, handler in before.items():
        signal.signal(number, handler)
    return code if code >= 0 else 128 - code  # ended by a signal: as a shell says it


def taken_over(model: Any) -> Any:
    """The model in other modules, to be sharded; in those of `model` the parameters are left without content."""
    tensors = [*model.parameters(), *model.buffers()]
    working = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    empty = {id(one): Parameter(one.to("meta"), one.requires_grad) for one in model.parameters()}
    for module in model.modules():
        module._parameters.update(
            {name: empty[id(one)] for name, one in module._parameters.items() if one is not None}
        )
    return working


def gather(working: Any, model: Any) -> None:
    """Put the parameters of a sharded model into `model` of the main process, on the CPU."""
    main, found = PartialState().is_main_process, {}
    for name, tensor in working.named_parameters():
        content = whole(tensor)  # in which all processes take part
        if main:
            found[name] = content.cpu()
    if main:
        model.load_state_dict(found, strict=False, assign=True)
        model.tie_weights()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor of which each process may hold a part; all of them have to ask for it."""
    return tensor.detach().full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def whole_steps(rows: list[Row], together: int) -> list[Row]:
    """The rows, filled up with such that teach nothing to a multiple of the `together` that go through at once."""
    return rows + [UNLABELLED] * (-len(rows) % together)


def rows_of_process(rows_per_step: int) -> int:
    """How many of an optimiser step's rows each process has; UserError where they cannot be shared evenly."""
    if rows_per_step % processes():
        raise UserError(
            f"batch_tokens: {rows_per_step} rows of max_sequence_tokens a step cannot be shared by {processes()} "
            f"processes; allowed: multiples of {processes()} x max_sequence_tokens"
        )
    return rows_per_step // processes()
