"""What every benchmark writes: its figures, and all that one needs to judge or repeat them."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write_results(
    name: str,
    measurements: dict[str, float],
    *,
    rows: Sequence[dict[str, Any]],
    packages: Iterable[str],
    seeds: Sequence[int],
    repetitions: int,
) -> Path:
    """Write benchmarks/results/NAME.json and return its path.

    measurements: the headline figures; rows: everything measured, with its spread; packages: whose versions matter.
    """
    result = {
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in packages},
        },
        "command": " ".join(["python -m", f"benchmarks.{name}", *sys.argv[1:]]),
        "seeds": list(seeds),
        "repetitions": repetitions,
        "measurements": measurements,
        "rows": list(rows),
    }
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measurements, indent=2))
    return target


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB and system of this machine."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        processor = models[0] if models else processor
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_gib, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
