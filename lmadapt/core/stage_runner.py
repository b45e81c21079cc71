"""Run a stage as a program: its section of params.yaml, its paths from the command line."""

import argparse
import inspect
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from lmadapt.core.environment import TRUST_VARIABLE, prepare_environment
from lmadapt.core.errors import UserError
from lmadapt.core.files import file_sha256, read_json, write_json
from lmadapt.core.sections import Section, load_section, read_params

PARAMS_FILE = Path("params.yaml")
RUNS = Path(".lmadapt/runs")
"""A file a stage: time and machine of its last run here, which its metrics leave out to stay
equal for equal inputs."""


def run(stage: Callable[..., None], *, offline: bool = True) -> None:
    """Call `stage(params, **paths)`; when it raises UserError, exit with the error's exit code.

    `params` is the section of params.yaml that has the function's name, as the type that the
    function annotates. Another argument whose type is a Section is the section of its own name.
    Every other argument of the function is a path and becomes a required option `--name PATH`.
    """
    prepare_environment(offline=offline)
    arguments = inspect.signature(stage).parameters
    sections = {name: one.annotation for name, one in arguments.items() if _is_section(one)}
    paths = _parse_paths(stage, [name for name in arguments if name not in sections])
    began = time.monotonic()
    try:
        _allow_own_code(read_params(PARAMS_FILE))
        loaded = {
            name: load_section(kind, stage.__name__ if name == "params" else name, PARAMS_FILE)
            for name, kind in sections.items()
        }
        stage(**loaded, **paths)
    except UserError as error:
        print(f"{stage.__name__} stopped: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    if metrics := paths.get("metrics"):
        _record_run(stage.__name__, time.monotonic() - began, metrics)


def _is_section(argument: inspect.Parameter) -> bool:
    kind = argument.annotation
    return isinstance(kind, type) and issubclass(kind, Section)


def recorded_run(stage: str, metrics: Path) -> dict[str, Any] | None:
    """Return the record of the run that wrote `metrics` as they are now, if that ran here.

    Keys: `seconds`, `processor`, `cores`, `gpus` (names) and `peak_bytes`.
    """
    record = RUNS / f"{stage}.json"
    if not record.is_file() or not metrics.is_file():
        return None
    run = dict(read_json(record))
    return run if run.pop("metrics_sha256") == file_sha256(metrics) else None


def recorded_memory(metrics: Path) -> list[dict[str, Any]]:
    """Return planned and measured memory in bytes of the trainings that ran here.

    `metrics` is the folder of the metrics files. A row has `stage`, `planned` ([low, expected,
    high]) and `measured` (the peak).
    """
    rows = []
    for stage in ("pretrain", "sft"):
        plan, run = RUNS / f"{stage}.plan.json", recorded_run(stage, metrics / f"{stage}.json")
        if plan.is_file() and run and "peak_bytes" in run:
            rows.append({"stage": stage, "planned": read_json(plan), "measured": run["peak_bytes"]})
    return rows


def _allow_own_code(params: Mapping[str, Any]) -> None:
    """Let models run their own code when fetch.model.trust_remote_code is true.

    Processes that the stage starts inherit the variable.
    """
    model = (params.get("fetch") or {}).get("model") or {}
    if model.get("trust_remote_code") is True:
        os.environ[TRUST_VARIABLE] = "true"


def _parse_paths(stage: Callable[..., None], names: list[str]) -> dict[str, Path]:
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{stage.__name__}", description=inspect.getdoc(stage)
    )
    for name in names:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=Path, required=True, metavar="PATH")
    return vars(parser.parse_args())


def _record_run(stage: str, seconds: float, metrics: Path) -> None:
    torch = sys.modules.get("torch")  # only stages that use it have loaded it
    gpus = range(torch.cuda.device_count()) if torch else range(0)
    if torch and gpus:
        peak = torch.cuda.max_memory_reserved()  # of the first GPU, with its allocator's reserve
    else:
        peak = getrusage(RUSAGE_SELF).ru_maxrss * 1024
    run = {
        "seconds": round(seconds, 1),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(gpu) for gpu in gpus] if torch else [],
        "peak_bytes": peak,
    }
    write_json(RUNS / f"{stage}.json", run | {"metrics_sha256": file_sha256(metrics)})
