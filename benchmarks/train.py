"""Our training loop against TRL's, and the planner against what it plans: `python -m benchmarks.train [PROJECT]`.

Needs a project in which the demo has run (models/pretrained, models/base, data/curated). Every figure is of a process
of its own. Ours, TRL as its scripts set it up (unpacked, 8 conversations a micro-batch, activation checkpointing) and
TRL packed and tuned by hand take turns on the same token ids, labels, NF4 base, adapter, precision and tokens a step;
speed is useful tokens (no padding) over the time between the first and the last step, memory the peak of the process.
Planned memory is compared with measured peaks on this machine, and with peaks others published
(published_memory.json).
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.record import write_results
from lmadapt.planning.memory_model import Setting, read_shape, step_memory, total

PUBLISHED = Path(__file__).parent / "published_memory.json"
SMALL = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "vocab_size": 32000,
}
LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 16,
    "vocab_size": 64000,
}
SHAPES = {
    "small": SMALL | {"num_attention_heads": 12, "num_key_value_heads": 4},
    "large": LARGE | {"num_attention_heads": 16, "num_key_value_heads": 8},
}
SETTINGS = [  # model, method, tokens a row, rank, share of tokens that carry loss
    ("small", "lora", 512, 16, 1.0),
    ("small", "qlora", 2048, 16, 0.4),
    ("small", "full", 256, 16, 1.0),
    ("large", "lora", 256, 64, 0.4),
    ("large", "qlora", 1024, 16, 0.4),
    ("large", "full", 256, 16, 0.4),
    ("gemma", "qlora", 512, 16, 0.4),
    ("gemma", "lora", 1024, 32, 1.0),
    ("gemma", "full", 256, 16, 0.4),
]
CHECKPOINT_SECONDS = 300  # checkpoint_minutes of the recipes


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", nargs="?", type=Path, default=Path())
    parser.add_argument("--tokens", type=int, default=5000, help="of each run of a training loop")
    parser.add_argument("--repetitions", type=int, default=2)
    arguments = parser.parse_args()
    project = str(arguments.project.resolve())
    rows: list[dict[str, Any]] = []
    for _ in range(arguments.repetitions):
        for name, job in (
            ("ours", {"kind": "ours"}),
            ("trl stock", {"kind": "trl", "packed": False}),
            ("trl tuned", {"kind": "trl", "packed": True}),
        ):
            found = run({**job, "project": project, "tokens": arguments.tokens})
            rows.append(
                {"loop": name, "tokens_per_second": found["tokens"] / found["seconds"], **found}
            )
    saved = run({"kind": "checkpoint", "project": project})
    rows.append({"checkpoints": saved["checkpoints"], "interval_seconds": CHECKPOINT_SECONDS})
    measured, published = planner_measured(project), planner_published()
    speed = {
        name: _median(rows, name, "tokens_per_second")
        for name in ("ours", "trl stock", "trl tuned")
    }
    peak = {
        name: max(row["peak_bytes"] for row in rows if row.get("loop") == name) for name in speed
    }
    write_results(
        "train",
        {
            "tokens_vs_trl_stock": speed["ours"] / speed["trl stock"],
            "tokens_vs_trl_tuned": speed["ours"] / speed["trl tuned"],
            "memory_vs_trl": peak["ours"] / min(peak["trl stock"], peak["trl tuned"]),
            "planner_error_measured_max": max(abs(row["error"]) for row in measured),
            "planner_error_published_max": max(abs(row["error"]) for row in published),
            "checkpoint_overhead": max(c["seconds"] for c in saved["checkpoints"])
            / CHECKPOINT_SECONDS,
        },
        rows=[*rows, *measured, *published],
        packages=("torch", "transformers", "peft", "bitsandbytes", "trl"),
        seeds=[0],
        repetitions=arguments.repetitions,
    )


def run(job: dict[str, Any]) -> dict[str, Any]:
    """What a worker found, run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train_workers", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def planner_measured(project: str) -> list[dict[str, Any]]:
    """Expected and measured peak of three steps in each of SETTINGS."""
    rows = []
    with TemporaryDirectory() as temp:
        for name, shape in SHAPES.items():
            run({"kind": "make", "folder": f"{temp}/{name}", "shape": shape})
        for model, method, row_tokens, rank, labelled in SETTINGS:
            folder = f"{project}/models/base" if model == "gemma" else f"{temp}/{model}"
            asked = {"method": method, "row_tokens": row_tokens, "rank": rank, "labelled": labelled}
            peak = run({"kind": "planned", "folder": folder, **asked})["peak_bytes"]
            config = json.loads((Path(folder) / "config.json").read_text())
            setting = Setting(
                row_tokens=row_tokens,
                lora_rank=None if method == "full" else rank,
                weight_bytes=4 if method == "full" else 2,
                labelled=labelled,
                cuda=False,
            )
            parts = step_memory(read_shape(config, folder), setting)
            rows.append({"planned": model, **asked, **_compared(total(parts)[1], peak)})
    return rows


def planner_published() -> list[dict[str, Any]]:
    """Expected and published peak of each figure in published_memory.json, whose settings stand there."""
    content, rows = json.loads(PUBLISHED.read_text()), []
    for source in content["sources"]:
        for figure in source["figures"]:
            options = {**source["setting"], **figure["setting"]}
            options["adapted"] = tuple(options.pop("adapted", ("attention", "mlp")))
            shape = read_shape(content["models"][figure["model"]], figure["model"])
            expected = total(step_memory(shape, Setting(**options)))[1]
            rows.append(
                {
                    "published": source["url"],
                    **figure,
                    **_compared(expected, figure["gigabytes"] * 1e9),
                }
            )
    return rows


def _compared(expected: float, measured: float) -> dict[str, float]:
    return {
        "expected_bytes": expected,
        "measured_bytes": measured,
        "error": expected / measured - 1,
    }


def _median(rows: list[dict[str, Any]], loop: str, key: str) -> float:
    return statistics.median(row[key] for row in rows if row.get("loop") == loop)


if __name__ == "__main__":
    main()
