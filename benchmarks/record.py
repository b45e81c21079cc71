"""The arguments that every benchmark takes, and the result file that it writes."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NO_PEERS: Mapping[str, str] = {}


def benchmark_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with `--smoke` and `--results`; `description` is the benchmark's own docstring."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="the same run made small, in seconds; its figures mean nothing",
    )
    parser.add_argument(
        "--results",
        type=lambda text: Path(text).resolve(),  # a benchmark may change its working folder
        metavar="FILE",
        help=f"where to write the results (benchmarks/results/{name}.json;"
        " with --smoke a temporary file)",
    )
    return parser


def write_results(
    name: str,
    arguments: argparse.Namespace,
    measurements: Mapping[str, float],
    *,
    rows: Sequence[Mapping[str, Any]],
    packages: Iterable[str],
    seeds: Sequence[int],
    repetitions: int,
    left_out: Mapping[str, str] = NO_PEERS,
) -> Path:
    """Write the result file, print its measurements and return its path.

    arguments: what `benchmark_parser` parsed.
    measurements: the headline figures.
    rows: everything that was measured, with its spread.
    packages: the packages whose versions matter.
    left_out: why each peer or part was left out, by its name; its figures are not in the file.
    """
    result = {
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in packages},
        },
        "command": " ".join(["python -m", f"benchmarks.{name}", *sys.argv[1:]]),
        "smoke": arguments.smoke,
        "seeds": list(seeds),
        "repetitions": repetitions,
        "left_out": dict(left_out),
        "measurements": dict(measurements),
        "rows": [dict(row) for row in rows],
    }
    target = arguments.results or _default_target(name, arguments.smoke)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(dict(measurements), indent=2))
    for peer, reason in left_out.items():
        print(f"left out: {peer}: {reason}", file=sys.stderr)
    print(f"written: {target}", file=sys.stderr)
    return target


def _default_target(name: str, smoke: bool) -> Path:
    if smoke:
        return Path(tempfile.mkdtemp(prefix="benchmarks-")) / f"{name}.json"
    return RESULTS / f"{name}.json"


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB and system of this machine."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_gib, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    for line in lines:
        if "model name" in line:
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
