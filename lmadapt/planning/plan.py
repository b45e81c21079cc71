"""Whether a training fits before it starts: memory by part, micro-batch, time, what to change; no torch, no weights."""

import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from lmadapt.core.errors import UserError
from lmadapt.core.files import read_json, write_json
from lmadapt.core.sections import Section, check_section, plain
from lmadapt.core.stage_runner import RUNS
from lmadapt.planning.memory_model import (
    PARTS,
    Parts,
    Setting,
    Shape,
    read_shape,
    step_memory,
    total,
    training_flops,
)

GPUS = {  # GiB, and dense bf16 TFLOP/s with fp32 accumulation, of NVIDIA's data sheets
    "rtx3090": (24, 71), "a10": (24, 125), "l4": (24, 121), "rtx4090": (24, 165), "rtx5090": (32, 210),
    "a6000": (48, 155), "l40s": (48, 362), "a10040gb": (40, 312), "a100": (80, 312), "h100": (80, 989),
    "h200": (141, 989), "b200": (180, 2250),
}  # fmt: skip
USABLE = (
    0.96  # of the memory a card is sold with: drivers and ECC take the rest (A10: 22.5 of 24 GiB)
)
GPU_UTILISATION = (
    0.25,
    0.35,
    0.45,
)  # transformers with bitsandbytes and PEFT, 7B on an A100: docs/plan.md
CORE_FLOPS = (0.8e11, 1.3e11, 1.8e11)  # of a CPU core with AVX512-BF16, measured with the demo
LABELLED = {
    "pretrain": 1.0,
    "sft": 0.4,
}  # share of positions that carry loss, until the data is there to count
EIGHT_BIT = (
    2 + 8 / 256
)  # bytes a parameter: two states, and an fp32 constant of either for each block of 256
CONFIGS = Path(
    "recipes/configs"
)  # config.json of the recipes' models, so that planning one needs no network


class PlannedStage(Section):
    """What of a training stage's settings decides its memory and time; its other keys are not read here."""

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
class Device:
    """What is trained on: bytes and operations a second of each; a CPU counts as one device without CUDA."""

    name: str
    count: int
    memory: float
    flops: tuple[float, float, float]
    cuda: bool


@dataclass(frozen=True)
class StagePlan:
    """The plan of one stage; bytes are (low, expected, high) on one device, seconds too."""

    stage: str
    device: Device
    setting: Setting
    parts: Parts
    accumulation: int
    tokens: int
    steps: int
    seconds: tuple[float, float, float]
    rate: str
    remedies: list[tuple[str, float]]

    @property
    def verdict(self) -> str:
        """fits: even the high estimate does; tight: the expected one does; too large."""
        _, expected, high = total(self.parts)
        return (
            "fits"
            if high <= self.device.memory
            else "tight"
            if expected <= self.device.memory
            else "too large"
        )


def named_device(name: str) -> Device:
    """The device of `24GB`, `8x80GB`, `2xL40S` or `cpu`; UserError for a name that is not known."""
    number, plain = re.fullmatch(r"(?:(\d+)x)?(.*)", name.lower()).groups()  # type: ignore[union-attr]
    count, plain = int(number or 1), re.sub(r"[^a-z0-9]", "", plain)
    size = re.fullmatch(r"(\d+)gb?", plain)
    if name.lower() == "cpu":
        return _cpu()
    if not count or not (size or plain in GPUS):
        raise UserError(
            f"--gpu: {name!r} is not known; allowed: the memory of each, as 24GB or 8x80GB; cpu; or, also as 2xNAME, "
            f"{', '.join(GPUS)}"
        )
    gibibytes = int(size[1]) if size else GPUS[plain][0]
    return _gpu(name, count, gibibytes * USABLE, plain)


def found_device() -> Device | None:
    """The GPUs of this machine as nvidia-smi lists them; None without one."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    if not shutil.which(query[0]):
        return None
    if not (
        lines := subprocess.run(
            query, capture_output=True, text=True, check=False
        ).stdout.splitlines()
    ):
        return None
    name, _, mebibytes = lines[0].rpartition(",")
    return _gpu(
        name.strip(),
        len(lines),
        int(mebibytes) / 1024 * 0.98,
        re.sub(r"[^a-z0-9]", "", name.lower()),
    )


def planning_device(recipe: str | None) -> Device:
    """What is planned for: the GPUs found here, else those the recipe's name ends in, else this CPU."""
    named = re.search(r"-((\d+x)?\d+gb)$", recipe or "")
    return found_device() or (named_device(named[1]) if named else _cpu())


def _gpu(name: str, count: int, gibibytes: float, plain: str) -> Device:
    known = max((key for key in GPUS if key in plain), key=len, default=None)
    speeds = [speed for size, speed in GPUS.values() if size >= gibibytes]
    speed = GPUS[known][1] if known else min(speeds, default=312)
    return Device(name, count, gibibytes * 2**30, _times(speed * 1e12, GPU_UTILISATION), cuda=True)


def _times(factor: float, values: tuple[float, float, float]) -> tuple[float, float, float]:
    return factor * values[0], factor * values[1], factor * values[2]


def _cpu() -> Device:
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        memory = min(memory, int(text))
    return Device(
        f"CPU with {cores} cores", 1, memory * USABLE, _times(cores, CORE_FLOPS), cuda=False
    )


def model_config(
    model: dict[str, Any], project: Path, *, fetched: bool
) -> tuple[dict[str, Any], str]:
    """config.json of the model in `fetch.model`, and where it came from: a folder, our copy, or the hub.

    `fetched`: models/base of the project counts. Raises UserError where there is none, Unavailable without network.
    """
    name = str(model["name_or_path"] or model["module"])
    shipped = CONFIGS / f"{name.replace('/', '--')}.json"
    folders = [Path(name), *([project / "models/base"] if fetched else [])]
    for file in [*(folder / "config.json" for folder in folders), project / shipped]:
        if file.is_file():
            return dict(read_json(file)), str(file)
    if model["module"]:
        raise UserError(
            f"{model['module']} makes the model, and models/base is not there yet: run `dvc repro fetch`"
        )
    from lmadapt.models.base_model import download

    return dict(read_json(download(name, model["revision"], ["config.json"]) / "config.json")), name


def plan_stage(
    stage: str, params: PlannedStage, config: dict[str, Any], source: str, device: Device
) -> StagePlan:
    """The plan of `stage` on `device`, with the micro-batch chosen where it is `auto`."""
    shape = read_shape(config, source)
    rows = params.batch_tokens // params.max_sequence_tokens
    if not rows:
        raise UserError(
            f"{stage}: batch_tokens is {params.batch_tokens}, less than one row of max_sequence_tokens, "
            f"{params.max_sequence_tokens}"
        )
    setting = _setting(
        stage, params, device, labelled_head=not config.get("final_logit_softcapping")
    )
    share = max(1, rows // device.count)
    if params.micro_batch_rows == "auto":
        setting = replace(
            setting, rows=fitting_rows(shape, setting, share, device.memory) if device.cuda else 1
        )
    flops = training_flops(shape, setting) * params.max_tokens / device.count
    seconds = (flops / device.flops[2], flops / device.flops[1], flops / device.flops[0])
    speed = f"{device.flops[1] / 1e12:.2g} TFLOP/s a {'GPU' if device.cuda else 'CPU'}"
    plan = StagePlan(
        stage, device, setting, step_memory(shape, setting),
        accumulation=math.ceil(rows / (setting.rows * device.count)),
        tokens=params.max_tokens, steps=math.ceil(params.max_tokens / (rows * params.max_sequence_tokens)),
        seconds=seconds, rate=f"{flops * device.count / params.max_tokens / 1e9:.2f} GFLOP a token at {speed}",
        remedies=[],
    )  # fmt: skip
    return (
        plan
        if plan.verdict == "fits"
        else replace(plan, remedies=list(_remedies(shape, plan, params.model_fields_set)))
    )


def fitting_rows(shape: Shape, setting: Setting, rows: int, memory: float) -> int:
    """The most rows a micro-batch, dividing `rows` evenly, whose high estimate is within `memory` bytes; at least 1."""
    sizes = (size for size in range(rows, 0, -1) if rows % size == 0)
    return next((size for size in sizes if _high(shape, replace(setting, rows=size)) <= memory), 1)


def _high(shape: Shape, setting: Setting) -> float:
    return total(step_memory(shape, setting))[2]


def _setting(stage: str, params: PlannedStage, device: Device, *, labelled_head: bool) -> Setting:
    """As the stage trains: frozen weights in bf16 (4 bits with qlora, on a GPU), what is trained in fp32."""
    eight_bit = "8bit" in params.optimizer or (params.optimizer == "auto" and device.cuda)
    return Setting(
        row_tokens=params.max_sequence_tokens,
        rows=1 if params.micro_batch_rows == "auto" else params.micro_batch_rows,
        lora_rank=None if params.method == "full" else params.lora_rank,
        adapted=("attention", "mlp") if params.target_modules == "all-linear" else ("mlp",),
        nf4=params.method == "qlora" and device.cuda,
        weight_bytes=4 if params.method == "full" else 2,
        optimizer_bytes=EIGHT_BIT if eight_bit else 8,
        checkpointing=device.cuda
        if params.activation_checkpointing == "auto"
        else params.activation_checkpointing,
        labelled=LABELLED[stage],
        labelled_head=labelled_head,
        gpus=device.count,
        cuda=device.cuda,
    )


def _remedies(shape: Shape, plan: StagePlan, keys: set[str]) -> Iterator[tuple[str, float]]:
    """What to change of `keys`, one by one, with the high estimate after each; ends with the first that fits."""
    setting, cuda = plan.setting, plan.device.cuda
    changes: list[tuple[str, dict[str, Any]]] = [
        ("micro_batch_rows: 1", {"rows": 1}),
        ("activation_checkpointing: true", {"checkpointing": True}),
        *((f"max_sequence_tokens: {tokens}", {"row_tokens": tokens})
          for tokens in (2048, 1024, 512) if tokens < setting.row_tokens),
        ("optimizer: paged_adamw_8bit", {"optimizer_bytes": EIGHT_BIT} if cuda else {}),
        ("lora_rank: 8", {"lora_rank": min(8, setting.lora_rank)} if setting.lora_rank else {}),
        ("method: lora", {"weight_bytes": 2, "lora_rank": 16} if setting.lora_rank is None else {}),
        ("method: qlora", {"nf4": True} if plan.stage == "sft" and cuda else {}),
        *((f"{gpus} GPUs with FSDP", {"gpus": gpus} if cuda and gpus > setting.gpus else {}) for gpus in (2, 4, 8)),
    ]  # fmt: skip
    for text, change in changes:
        key, changed = text.partition(":")[0], replace(setting, **change)
        if changed != setting and (key in keys or " " in key):
            setting = changed
            yield text, _high(shape, setting)
            if _high(shape, setting) <= plan.device.memory:
                return
    yield "a smaller model, or devices with more memory", _high(shape, setting)


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


def check_memory(stage: str, params: Section, base: Path) -> int:
    """The rows of a micro-batch for a training that is about to begin here; its plan is kept for the report.

    Raises UserError where not even the low estimate fits; a model that cannot be planned is not held up.
    """
    wanted = PlannedStage(**params.model_dump())
    try:
        config, source = read_json(base / "config.json"), str(base / "config.json")
        device = found_device() or _cpu()
        sharing = (
            int(os.environ.get("WORLD_SIZE", "1"))
            if os.environ.get("ACCELERATE_USE_FSDP") == "true"
            else 1
        )
        plan = plan_stage(stage, wanted, config, source, replace(device, count=sharing))
    except UserError:
        return 1 if wanted.micro_batch_rows == "auto" else wanted.micro_batch_rows
    low, expected, high = total(plan.parts)
    if low > plan.device.memory:
        raise UserError(
            f"{stage} needs {low / 1e9:.1f} to {high / 1e9:.1f} GB, and {plan.device.name} has "
            f"{plan.device.memory / 1e9:.1f}{'' if plan.device.cuda else ', and there is no GPU'}; "
            "`lmadapt plan` says what to change"
        )
    write_json(RUNS / f"{stage}.plan.json", [low, expected, high])
    return plan.setting.rows


def render_plan(plans: list[StagePlan]) -> Iterator[Any]:
    """What to print: a table a stage, its verdict, and what to change where it does not fit."""
    from rich.table import Table

    for plan in plans:
        device, setting = plan.device, plan.setting
        each = (
            f"{device.count} x {device.name.removeprefix(f'{device.count}x')}"
            if device.cuda
            else device.name
        )
        table = Table(
            title=f"{plan.stage} on {each}, {device.memory / 1e9:.1f} GB usable each",
            title_justify="left",
        )
        table.add_column("memory, GB")
        for heading in ("low", "expected", "high"):
            table.add_column(heading, justify="right")
        for name, values in [*plan.parts.items(), ("total", total(plan.parts))]:
            table.add_row(
                name, *(f"{value / 1e9:.2f}" for value in values), end_section=name == PARTS[-1]
            )
        yield table
        gpus = f" on {device.count} GPUs" if device.count > 1 else ""
        yield (
            f"micro-batch {setting.rows} x {setting.row_tokens} tokens{gpus}, accumulation {plan.accumulation}, "
            f"activation checkpointing {'on' if setting.checkpointing else 'off'}; {plan.tokens:,} tokens, "
            f"about {plan.steps:,} steps"
        )
        low, expected, high = (_duration(seconds) for seconds in plan.seconds)
        yield f"time: about {expected} ({low} to {high}): {plan.rate}"
        yield f"[bold]{plan.verdict}[/]" + (": change, in this order" if plan.remedies else "")
        for number, (text, size) in enumerate(plan.remedies, 1):
            yield f"  {number}. {text}: high {size / 1e9:.1f} GB"
        yield ""


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
