"""Run one stage as a program: its section of params.yaml, its paths from the command line."""

import argparse
import inspect
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from lmadapt.core.environment import prepare_environment
from lmadapt.core.errors import UserError
from lmadapt.core.files import file_sha256, read_json, write_json
from lmadapt.core.sections import load_section

PARAMS_FILE = Path("params.yaml")
RUNS = Path(
    ".lmadapt/runs"
)  # of each stage's last run here: what must not stand in its deterministic metrics


def run(stage: Callable[..., None], *, offline: bool = True) -> None:
    """Call `stage(params, **paths)` and exit: 0 when it returns, the error's exit code when it raises UserError.

    The section read is the one named like the function, as the type of its argument `params`; every other
    argument is a path and becomes a required option `--name PATH`. dvc.yaml states them all.
    """
    prepare_environment(offline=offline)
    arguments = inspect.signature(stage).parameters
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{stage.__name__}", description=inspect.getdoc(stage)
    )
    for name in arguments:
        if name != "params":
            parser.add_argument(
                f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH"
            )
    paths: dict[str, Any] = vars(parser.parse_args())
    began = time.monotonic()
    try:
        stage(load_section(arguments["params"].annotation, stage.__name__, PARAMS_FILE), **paths)
    except UserError as error:
        print(f"{stage.__name__} stopped: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    if metrics := paths.get("metrics"):
        _record_run(stage.__name__, time.monotonic() - began, metrics)


def recorded_run(stage: str, metrics: Path) -> dict[str, Any] | None:
    """How long the stage took and on what, if it ran here and wrote `metrics` as they are now."""
    record = RUNS / f"{stage}.json"
    run = dict(read_json(record)) if record.is_file() and metrics.is_file() else {}
    return run if run and run.pop("metrics_sha256") == file_sha256(metrics) else None


def recorded_memory(metrics: Path) -> list[dict[str, Any]]:
    """Of each training that wrote its file in folder `metrics` here: planned bytes (low, expected, high), peak."""
    rows = []
    for stage in ("pretrain", "sft"):
        plan, run = RUNS / f"{stage}.plan.json", recorded_run(stage, metrics / f"{stage}.json")
        if plan.is_file() and run and "peak_bytes" in run:
            rows.append({"stage": stage, "planned": read_json(plan), "measured": run["peak_bytes"]})
    return rows


def _record_run(stage: str, seconds: float, metrics: Path) -> None:
    torch = sys.modules.get("torch")  # loaded where the stage uses it
    gpus = range(torch.cuda.device_count()) if torch else []
    run = {
        "seconds": round(seconds, 1),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(gpu) for gpu in gpus] if torch else [],
        # of the first GPU, with what its allocator keeps; without one, of this process
        "peak_bytes": torch.cuda.max_memory_reserved()
        if torch and gpus
        else getrusage(RUSAGE_SELF).ru_maxrss * 1024,
        "energy_kwh": None,  # nothing here measures it
    }
    write_json(RUNS / f"{stage}.json", run | {"metrics_sha256": file_sha256(metrics)})
