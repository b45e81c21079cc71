"""Whether a training fits, before it starts: memory, micro-batch, time, and what to change.

It loads no weights and imports no torch.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from lmadapt.core.errors import UserError
from lmadapt.core.files import read_json, write_json
from lmadapt.core.sections import Section, check_section, plain
from lmadapt.core.stage_runner import RUNS
from lmadapt.planning.devices import Device, cpu, found_device
from lmadapt.planning.memory_model import (
    Parts,
    Setting,
    Shape,
    read_shape,
    step_memory,
    total,
    training_flops,
)

# Share of the positions that carry loss, as assumed before the data is there to count.
LABELLED = {"pretrain": 1.0, "sft": 0.4}
# Bytes a parameter: two states, each with an fp32 constant for a block of 256 parameters.
EIGHT_BIT = 2 + 8 / 256
ADAMW_FP32 = 8  # bytes a parameter: two states
SHORTER_ROWS = (2048, 1024, 512)  # tokens that a remedy proposes
MORE_GPUS = (2, 4, 8)
# config.json of the recipes' models, so that a plan for one needs no network.
CONFIGS = Path("recipes/configs")


class PlannedStage(Section):
    """The settings of a training stage that decide its memory and time; other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    method: Literal["qlora", "lora", "full"] = "qlora"
    lora_rank: int = Field(ge=1)
    target_modules: Literal["all-linear", "retain"] = "all-linear"
    max_tokens: int = Field(ge=1)
    max_sequence_tokens: int = Field(ge=8)
    batch_tokens: int = Field(ge=8)
    micro_batch_rows: int | Literal["auto"] = "auto"
    optimizer: str = "auto"
    activation_checkpointing: bool | Literal["auto"] = "auto"


@dataclass(frozen=True)
class StagePlan:
    """The plan of one stage; parts and seconds are low, expected, high."""

    stage: str
    device: Device
    setting: Setting
    parts: Parts  # bytes on one device
    accumulation: int  # passes of a step on one device
    tokens: int
    steps: int
    seconds: tuple[float, float, float]
    rate: str  # what the time was computed from, to print
    remedies: list[tuple[str, float]]  # what to change, and the high estimate in bytes after it

    @property
    def verdict(self) -> str:
        """`fits` where the high estimate does, `tight` where only the expected one does.

        Else `too large`.
        """
        _, expected, high = total(self.parts)
        if high <= self.device.memory:
            return "fits"
        return "tight" if expected <= self.device.memory else "too large"


def model_config(
    model: dict[str, Any], project: Path, *, fetched: bool
) -> tuple[dict[str, Any], str]:
    """config.json of the model in `fetch.model`, and where it was found.

    It is looked for in the folder that `model` names, with `fetched` in models/base of the project,
    then in CONFIGS and on the hub. Raises UserError where there is none, Unavailable without
    network.
    """
    name = str(model["name_or_path"] or model["module"])
    candidates = [Path(name) / "config.json"]
    if fetched:
        candidates.append(project / "models/base/config.json")
    candidates.append(project / CONFIGS / f"{name.replace('/', '--')}.json")
    for file in candidates:
        if file.is_file():
            return dict(read_json(file)), str(file)
    if model["module"]:
        raise UserError(
            f"{model['module']} makes the model, and models/base is not there yet: run "
            "`dvc repro fetch`"
        )
    from lmadapt.models.base_model import download

    folder = download(name, model["revision"], ["config.json"])
    return dict(read_json(folder / "config.json")), name


def plan_params(
    params: Mapping[str, Any], source: str, device: Device, *, fetched: bool = True
) -> list[StagePlan]:
    """Plan both training stages for the params of a file or recipe, which errors call `source`."""
    model = plain(params["fetch"]["model"])
    config = model_config(model, Path(), fetched=fetched)
    return [
        plan_stage(name, check_section(PlannedStage, name, params, source), *config, device)
        for name in ("pretrain", "sft")
    ]


def plan_stage(
    stage: str, params: PlannedStage, config: dict[str, Any], source: str, device: Device
) -> StagePlan:
    """The plan of `stage` on `device`, with the micro-batch chosen where it is `auto`."""
    shape = read_shape(config, source)
    rows = params.batch_tokens // params.max_sequence_tokens
    if not rows:
        raise UserError(
            f"{stage}: batch_tokens is {params.batch_tokens}, less than one row of "
            f"max_sequence_tokens, {params.max_sequence_tokens}"
        )
    labelled_head = not config.get("final_logit_softcapping")
    setting = _setting(stage, params, device, labelled_head=labelled_head)
    if params.micro_batch_rows == "auto" and device.cuda:
        share = max(1, rows // device.count)
        setting = replace(setting, rows=fitting_rows(shape, setting, share, device.memory))
    token_flops = training_flops(shape, setting)
    low_speed, speed, high_speed = device.flops
    flops = token_flops * params.max_tokens / device.count
    each = "GPU" if device.cuda else "CPU"
    plan = StagePlan(
        stage=stage,
        device=device,
        setting=setting,
        parts=step_memory(shape, setting),
        accumulation=math.ceil(rows / (setting.rows * device.count)),
        tokens=params.max_tokens,
        steps=math.ceil(params.max_tokens / (rows * params.max_sequence_tokens)),
        seconds=(flops / high_speed, flops / speed, flops / low_speed),
        rate=f"{token_flops / 1e9:.2f} GFLOP a token at {speed / 1e12:.2g} TFLOP/s a {each}",
        remedies=[],
    )
    if plan.verdict == "fits":
        return plan
    return replace(plan, remedies=list(_remedies(shape, plan, params.model_fields_set)))


def fitting_rows(shape: Shape, setting: Setting, rows: int, memory: float) -> int:
    """The largest divisor of `rows` whose high estimate is within `memory` bytes; at least 1."""
    for size in range(rows, 1, -1):
        if rows % size == 0 and _high(shape, replace(setting, rows=size)) <= memory:
            return size
    return 1


def _high(shape: Shape, setting: Setting) -> float:
    _, _, high = total(step_memory(shape, setting))
    return high


def _setting(stage: str, params: PlannedStage, device: Device, *, labelled_head: bool) -> Setting:
    """The step as the stage computes it.

    Frozen weights are in bf16, or in 4 bits with qlora on a GPU; trained ones are in fp32.
    """
    checkpointing = params.activation_checkpointing
    eight_bit = "8bit" in params.optimizer or (params.optimizer == "auto" and device.cuda)
    return Setting(
        row_tokens=params.max_sequence_tokens,
        rows=1 if params.micro_batch_rows == "auto" else params.micro_batch_rows,
        lora_rank=None if params.method == "full" else params.lora_rank,
        adapted=("attention", "mlp") if params.target_modules == "all-linear" else ("mlp",),
        nf4=params.method == "qlora" and device.cuda,
        weight_bytes=4 if params.method == "full" else 2,
        optimizer_bytes=EIGHT_BIT if eight_bit else ADAMW_FP32,
        checkpointing=device.cuda if checkpointing == "auto" else checkpointing,
        labelled=LABELLED[stage],
        labelled_head=labelled_head,
        gpus=device.count,
        cuda=device.cuda,
    )


def _remedies(shape: Shape, plan: StagePlan, keys: set[str]) -> Iterator[tuple[str, float]]:
    """What to change, one after the other, with the high estimate after each.

    Only changes of the stage's `keys` are proposed, and more GPUs. The list ends with the first
    change that makes the training fit.
    """
    setting = plan.setting
    for text, change in _changes(plan):
        key = text.partition(":")[0]
        changed = replace(setting, **change)
        names_a_key = " " not in key
        if changed == setting or (names_a_key and key not in keys):
            continue
        setting = changed
        high = _high(shape, setting)
        yield text, high
        if high <= plan.device.memory:
            return
    yield "a smaller model, or devices with more memory", _high(shape, setting)


def _changes(plan: StagePlan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Changes of a setting in the order of what they cost, with the text that proposes each."""
    setting, cuda = plan.setting, plan.device.cuda
    full = setting.lora_rank is None
    yield "micro_batch_rows: 1", {"rows": 1}
    yield "activation_checkpointing: true", {"checkpointing": True}
    for tokens in SHORTER_ROWS:
        if tokens < setting.row_tokens:
            yield f"max_sequence_tokens: {tokens}", {"row_tokens": tokens}
    if cuda:
        yield "optimizer: paged_adamw_8bit", {"optimizer_bytes": EIGHT_BIT}
    if setting.lora_rank is not None:
        yield "lora_rank: 8", {"lora_rank": min(8, setting.lora_rank)}
    if full:
        yield "method: lora", {"weight_bytes": 2, "lora_rank": 16}
    if cuda and plan.stage == "sft":
        yield "method: qlora", {"nf4": True}
    for gpus in MORE_GPUS:
        if cuda and gpus > setting.gpus:
            yield f"{gpus} GPUs with FSDP", {"gpus": gpus}


def check_memory(stage: str, params: Section, base: Path) -> int:
    """Rows of a micro-batch for a training that starts here; the plan is kept for the report.

    Raises UserError where even the low estimate does not fit. A model that cannot be planned is
    trained without a plan.
    """
    wanted = PlannedStage(**params.model_dump())
    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    sharing = int(os.environ.get("WORLD_SIZE", "1")) if sharded else 1
    config = base / "config.json"
    try:
        device = replace(found_device() or cpu(), count=sharing)
        plan = plan_stage(stage, wanted, read_json(config), str(config), device)
    except UserError:
        return 1 if wanted.micro_batch_rows == "auto" else wanted.micro_batch_rows
    low, expected, high = total(plan.parts)
    if low > device.memory:
        no_gpu = "" if device.cuda else ", and there is no GPU"
        raise UserError(
            f"{stage} needs {low / 1e9:.1f} to {high / 1e9:.1f} GB, and {device.name} has "
            f"{device.memory / 1e9:.1f}{no_gpu}; `lmadapt plan` says what to change"
        )
    write_json(RUNS / f"{stage}.plan.json", [low, expected, high])
    return plan.setting.rows
