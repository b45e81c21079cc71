"""The devices a training is planned for: GPUs by name or memory, those found here, or the CPU."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lmadapt.core.errors import UserError

# GiB, and dense bf16 TFLOP/s with fp32 accumulation, from NVIDIA's data sheets.
GPUS = {
    "rtx3090": (24, 71),
    "a10": (24, 125),
    "l4": (24, 121),
    "rtx4090": (24, 165),
    "rtx5090": (32, 210),
    "a6000": (48, 155),
    "l40s": (48, 362),
    "a10040gb": (40, 312),
    "a100": (80, 312),
    "h100": (80, 989),
    "h200": (141, 989),
    "b200": (180, 2250),
}
# Share of a card's nominal memory; drivers and ECC take the rest (A10: 22.5 of 24 GiB remain).
USABLE = 0.96
USABLE_AS_FOUND = 0.98  # share of the memory that nvidia-smi reports
# Low, expected, high share of the peak: transformers with bitsandbytes and PEFT, 7B on an A100
# (docs/plan.md).
GPU_UTILISATION = (0.25, 0.35, 0.45)
# Low, expected, high operations per second of a CPU core with AVX512-BF16, measured with the demo.
CORE_FLOPS = (0.8e11, 1.3e11, 1.8e11)


@dataclass(frozen=True)
class Device:
    """`count` equal GPUs; a CPU counts as one device without CUDA."""

    name: str
    count: int
    memory: float  # bytes usable on each
    flops: tuple[float, float, float]  # operations per second of each: low, expected, high
    cuda: bool


def named_device(name: str) -> Device:
    """The device called `24GB`, `8x80GB`, `2xL40S` or `cpu`; UserError for an unknown name."""
    if name.lower() == "cpu":
        return cpu()
    number, rest = re.fullmatch(r"(?:(\d+)x)?(.*)", name.lower()).groups()  # type: ignore[union-attr]
    count, model = int(number or 1), _letters_and_digits(rest)
    size = re.fullmatch(r"(\d+)gb?", model)
    if not count or not (size or model in GPUS):
        raise UserError(
            f"--gpu: {name!r} is not known; allowed: the memory of each, as 24GB or 8x80GB; cpu; "
            f"or, also as 2xNAME, {', '.join(GPUS)}"
        )
    gibibytes = int(size[1]) if size else GPUS[model][0]
    return _gpus(name, count, gibibytes * USABLE, model)


def found_device() -> Device | None:
    """The GPUs that nvidia-smi lists on this machine; None without one."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    if not shutil.which(query[0]):
        return None
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = answer.stdout.splitlines()
    if not lines:
        return None
    name, _, mebibytes = lines[0].rpartition(",")
    gibibytes = int(mebibytes) / 1024 * USABLE_AS_FOUND
    return _gpus(name.strip(), len(lines), gibibytes, _letters_and_digits(name.lower()))


def planning_device(recipe: str | None) -> Device:
    """The GPUs found here, else those in the name of the recipe, else this CPU."""
    found = found_device()
    if found:
        return found
    named = re.search(r"-((\d+x)?\d+gb)$", recipe or "")
    return named_device(named[1]) if named else cpu()


def cpu() -> Device:
    """This machine's CPU, with the memory that its control group allows."""
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        memory = min(memory, int(text))
    flops = _scaled(CORE_FLOPS, cores)
    return Device(f"CPU with {cores} cores", 1, memory * USABLE, flops, cuda=False)


def _gpus(name: str, count: int, gibibytes: float, model: str) -> Device:
    """GPUs with the speed of their model, or of the slowest known model with as much memory."""
    known = max((key for key in GPUS if key in model), key=len, default=None)
    speeds = [speed for size, speed in GPUS.values() if size >= gibibytes]
    teraflops = GPUS[known][1] if known else min(speeds, default=312)
    flops = _scaled(GPU_UTILISATION, teraflops * 1e12)
    return Device(name, count, gibibytes * 2**30, flops, cuda=True)


def _scaled(values: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    return factor * values[0], factor * values[1], factor * values[2]


def _letters_and_digits(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text)
