"""The training loop against TRL's, and the planner's memory against measured peaks.

Needs a project in which the demo has run: models/pretrained, models/base, data/curated. Each figure
comes from a process of its own. Three loops take turns: ours; TRL as its scripts set it up
(unpacked, 8 conversations a micro-batch, activation checkpointing); and TRL packed and tuned by
hand. All have the same token ids, labels, NF4 base, adapter, precision and tokens a step. Speed is
useful tokens (no padding) over the time from the first to the last step; memory is the peak of the
process. Planned memory is compared with peaks measured here and with peaks that others published
(published_memory.json).

Takes about 15 minutes on two cores; writes benchmarks/results/train.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.record import benchmark_parser, write_results
from lmadapt.planning.memory_model import Setting, read_shape, step_memory, total

PROJECT = Path(__file__).parents[1]
PUBLISHED = Path(__file__).parent / "published_memory.json"
CHECKPOINT_SECONDS = 300  # checkpoint_minutes of the recipes
LOOPS: dict[str, dict[str, Any]] = {
    "ours": {"kind": "ours"},
    "trl stock": {"kind": "trl", "packed": False},
    "trl tuned": {"kind": "trl", "packed": True},
}
SHAPES = {
    "small": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "vocab_size": 32000,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
    },
    "large": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 16,
        "vocab_size": 64000,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
    },
}
TINY_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "vocab_size": 500,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
Job = dict[str, Any]  # an argument of benchmarks/train_workers.py: a kind and its arguments


@dataclass(frozen=True)
class Training:
    """A training whose memory is planned and measured."""

    model: str  # a name in SHAPES, or gemma: the demo's base
    method: str  # lora | qlora | full
    row_tokens: int
    rank: int
    labelled: float  # share of tokens that carry loss


TRAININGS = (
    Training("small", "lora", 512, 16, 1.0),
    Training("small", "qlora", 2048, 16, 0.4),
    Training("small", "full", 256, 16, 1.0),
    Training("large", "lora", 256, 64, 0.4),
    Training("large", "qlora", 1024, 16, 0.4),
    Training("large", "full", 256, 16, 0.4),
    Training("gemma", "qlora", 512, 16, 0.4),
    Training("gemma", "lora", 1024, 32, 1.0),
    Training("gemma", "full", 256, 16, 0.4),
)
SMALL_TRAININGS = (Training("tiny", "lora", 64, 4, 1.0), Training("gemma", "full", 64, 4, 0.4))


def main() -> None:
    """Measure, and write the results."""
    parser = benchmark_parser("train", __doc__)
    parser.add_argument("project", nargs="?", type=Path, default=Path(), help="where the demo ran")
    parser.add_argument(
        "--tokens", type=int, default=5000, help="of each run of a training loop (%(default)s)"
    )
    parser.add_argument("--repetitions", type=int, default=2, help="of each loop (%(default)s)")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.smoke:
            arguments.project = folder / "project"
            arguments.tokens, arguments.repetitions = 400, 1
        measure(arguments, folder)


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Run all jobs, and compare what they found."""
    left_out = {} if find_spec("trl") else {"trl": "it is not installed; see lmadapt[bench]"}
    loops = {name: job for name, job in LOOPS.items() if name == "ours" or not left_out}
    trainings = SMALL_TRAININGS if arguments.smoke else TRAININGS
    shapes = {"tiny": TINY_SHAPE} if arguments.smoke else SHAPES
    project = str(arguments.project.resolve())
    folders = {name: str(folder / name) for name in shapes} | {"gemma": f"{project}/models/base"}
    jobs = [{"kind": "project", "project": project}] if arguments.smoke else []
    turns = list(loops) * arguments.repetitions
    jobs += [{**loops[name], "project": project, "tokens": arguments.tokens} for name in turns]
    jobs += [{"kind": "checkpoint", "project": project}]
    jobs += [
        {"kind": "make", "folder": folders[name], "shape": shape} for name, shape in shapes.items()
    ]
    jobs += [planned_job(training, folders) for training in trainings]
    # With a process for each job, the peak memory is the job's; a smoke run saves the imports.
    groups = [jobs] if arguments.smoke else [[job] for job in jobs]
    found = list(chain.from_iterable(run_jobs(group) for group in groups))
    by_kind = [(job["kind"], result) for job, result in zip(jobs, found, strict=True)]
    trained = [result for kind, result in by_kind if kind in ("ours", "trl")]
    rows = [loop_row(name, result) for name, result in zip(turns, trained, strict=True)]
    (saved,) = (result["checkpoints"] for kind, result in by_kind if kind == "checkpoint")
    peaks = [result["peak_bytes"] for kind, result in by_kind if kind == "planned"]
    measured = [
        measured_row(training, folders[training.model], peak)
        for training, peak in zip(trainings, peaks, strict=True)
    ]
    published = published_rows()
    write_results(
        "train",
        arguments,
        {
            **against_trl(rows, loops),
            "planner_error_measured_max": max(abs(row["error"]) for row in measured),
            "planner_error_published_max": max(abs(row["error"]) for row in published),
            "checkpoint_overhead": max(one["seconds"] for one in saved) / CHECKPOINT_SECONDS,
        },
        rows=[
            *rows,
            {"checkpoints": saved, "interval_seconds": CHECKPOINT_SECONDS},
            *measured,
            *published,
        ],
        packages=("torch", "transformers", "peft", "bitsandbytes", "trl"),
        seeds=[0],
        repetitions=arguments.repetitions,
        left_out=left_out,
    )


def run_jobs(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What one worker process finds for each job; exits with the process's errors if it fails."""
    command = [sys.executable, "-m", "benchmarks.train_workers", json.dumps(jobs)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{jobs} failed:\n{done.stderr[-3000:]}")
    return list(json.loads(done.stdout.splitlines()[-1]))


def loop_row(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """One run of a training loop."""
    speed = result["tokens"] / result["seconds"]
    return {"loop": name, "tokens_per_second": speed, **result}


def against_trl(rows: Sequence[dict[str, Any]], loops: dict[str, Job]) -> dict[str, float]:
    """Our speed and peak memory over TRL's; empty without TRL."""
    if "trl tuned" not in loops:
        return {}
    of_loop = {name: [row for row in rows if row["loop"] == name] for name in loops}
    speed = {
        name: statistics.median(row["tokens_per_second"] for row in own)
        for name, own in of_loop.items()
    }
    peak = {name: max(row["peak_bytes"] for row in own) for name, own in of_loop.items()}
    return {
        "tokens_vs_trl_stock": speed["ours"] / speed["trl stock"],
        "tokens_vs_trl_tuned": speed["ours"] / speed["trl tuned"],
        "memory_vs_trl": peak["ours"] / min(peak["trl stock"], peak["trl tuned"]),
    }


def planned_job(training: Training, folders: dict[str, str]) -> Job:
    """The job that measures the peak of three steps of a training."""
    asked = asdict(training)
    return {"kind": "planned", "folder": folders[asked.pop("model")], **asked}


def measured_row(training: Training, folder: str, peak: float) -> dict[str, Any]:
    """The expected and the measured peak of a training, in bytes."""
    asked = asdict(training)
    setting = Setting(
        row_tokens=training.row_tokens,
        lora_rank=None if training.method == "full" else training.rank,
        weight_bytes=4 if training.method == "full" else 2,
        labelled=training.labelled,
        cuda=False,
    )
    config = json.loads((Path(folder) / "config.json").read_text())
    parts = step_memory(read_shape(config, folder), setting)
    return {"planned": asked.pop("model"), **asked, **compared(total(parts)[1], peak)}


def published_rows() -> list[dict[str, Any]]:
    """The expected and the published peak of each figure in published_memory.json."""
    content, rows = json.loads(PUBLISHED.read_text()), []
    for source in content["sources"]:
        for figure in source["figures"]:
            options = {**source["setting"], **figure["setting"]}
            options["adapted"] = tuple(options.pop("adapted", ("attention", "mlp")))
            shape = read_shape(content["models"][figure["model"]], figure["model"])
            expected = total(step_memory(shape, Setting(**options)))[1]
            errors = compared(expected, figure["gigabytes"] * 1e9)
            rows.append({"published": source["url"], **figure, **errors})
    return rows


def compared(expected: float, measured: float) -> dict[str, float]:
    """Both in bytes, and by what share the expected one is too high."""
    return {
        "expected_bytes": expected,
        "measured_bytes": measured,
        "error": expected / measured - 1,
    }


if __name__ == "__main__":
    main()
