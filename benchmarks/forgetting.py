"""What each mitigation of forgetting keeps and costs: continued pre-training on the demo's corpus.

Needs `dvc repro validate`. A run is the stage `pretrain` itself: it trains models/base on a fixed
budget of tokens, the step in which the demo forgets. The trained model and the base then answer a
fixed random part of the general items and read held-out text of the domain. Each run leaves a file
below --kept, and a run that has its file is not repeated, so an interrupted benchmark continues.

Domain gain: bits per byte of held-out domain text, base less trained, mean over the seeds; its
interval resamples documents. General change: accuracy, trained less base, by item, mean over the
seeds; its interval allows for items of one cluster (lmadapt.verdict.statistics). Intervals have
90 % confidence.

Ten settings with three seeds take about two hours on two cores; writes
benchmarks/results/forgetting.json and docs/forgetting.svg.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forgetting_report import Run, compare_runs, frontier, headlines, print_table
from benchmarks.record import benchmark_parser, machine, write_results
from lmadapt.core.environment import prepare_environment
from lmadapt.core.files import read_json, write_json
from lmadapt.core.tables import DOCUMENT, HELDOUT, INSTRUCTION, ITEM, read_table, write_table
from lmadapt.models.loading import load_bf16, load_tokenizer
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import choose, encode_document, encode_item
from stages.pretrain import PretrainParams, pretrain

LEARNING_RATE = 1e-3
PLAIN: dict[str, Any] = {
    "method": "lora",
    "lora_rank": 16,
    "lora_alpha": 32,
    "lora_variant": "lora",
    "target_modules": "all-linear",
    "learning_rate": LEARNING_RATE,
    "lr_schedule": "cosine",
    "warmup_fraction": 0.1,
    "decay_fraction": 0.2,
    "weight_decay": 0.0,
    "optimizer": "auto",
    "embedding_learning_rate_factor": 1.0,
    "max_tokens": 10000,
    "max_sequence_tokens": 256,
    "batch_tokens": 512,
    "micro_batch_rows": "auto",
    "activation_checkpointing": "auto",
    "replay_fraction": 0.0,
    "replay_source": "general",
    "replay_weights": {},
    "kl_weight": 0.0,
    "kl_tokens": "all",
    "l2_sp_weight": 0.0,
    "ewc_weight": 0.0,
    "si_weight": 0.0,
    "fisher_examples": 32,
    "frozen_layers": 0,
    "checkpoint_minutes": 5.0,
    "accelerate_config": None,
    "heldout_every_steps": 0,
    "heldout_tokens": 1000,
    "keep": "last",
    "patience": None,
    "retention_budget_bits_per_byte": None,
}
SELF_REPLAY = {"replay_fraction": 0.2, "replay_source": "self"}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "low_learning_rate": {"learning_rate": LEARNING_RATE / 5},
    "replay": {"replay_fraction": 0.2},
    "self_replay": SELF_REPLAY,
    "kl": {"kl_weight": 0.3},
    "ewc": {"ewc_weight": 1e4},
    "l2_sp": {"l2_sp_weight": 0.03},
    "retain": {"target_modules": "retain", "lora_rank": 10, "lora_alpha": 20},
    "self_replay_kl": SELF_REPLAY | {"kl_weight": 2.0, "kl_tokens": "replay"},
    "replay_answers": {"replay_fraction": 0.2},
}
# These settings replay general questions with their answers, not the demo's general text.
ANSWERS = {"replay_answers"}
SEEDS = (0, 1, 2)
ITEMS_PER_CATEGORY, HELDOUT_DOCUMENTS = 75, 30
MARGIN = 0.02  # the fall of general accuracy that counts as forgetting
Rows = Sequence[dict[str, Any]]


def main() -> None:
    """Do the runs that have no file yet, and write the results."""
    arguments = parse_arguments()
    prepare_environment(offline=True)
    if not arguments.smoke:
        return measure(arguments)
    with tempfile.TemporaryDirectory() as folder:
        make_small(arguments, Path(folder))
        with chdir(folder):  # the stage writes its checkpoints into the working folder
            measure(arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = benchmark_parser("forgetting", __doc__)
    parser.add_argument(
        "--project", type=Path, default=Path(), help="where models/ and data/curated are"
    )
    parser.add_argument(
        "--kept",
        type=Path,
        default=Path(".lmadapt/bench/forgetting"),
        help="a file for each run (%(default)s)",
    )
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--report", action="store_true", help="only report the runs with a file")
    parser.add_argument("--picture", type=Path, default=Path("docs/forgetting.svg"))
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="other values for keys of the stage",
    )
    return parser.parse_args()


def make_small(arguments: argparse.Namespace, folder: Path) -> None:
    """Point the arguments to a tiny model and tables, one seed and few tokens, in `folder`."""
    from tests.planted import make_items
    from tests.tables import write_heldout, write_instructions, write_texts
    from tests.tiny import make_tiny_model

    curated = folder / "data/curated"
    curated.mkdir(parents=True)
    make_tiny_model(folder / "models/base")
    _, replay = write_texts(curated)
    replay.rename(curated / "replay_text.parquet")
    write_heldout(curated).rename(curated / "heldout_text.parquet")
    write_instructions(curated)
    write_table(make_items()[::6], ITEM, curated / "items.parquet")
    arguments.project, arguments.kept = folder, folder / "kept"
    arguments.picture, arguments.seeds = folder / "forgetting.svg", [0]
    arguments.settings = ["none", "self_replay_kl", "replay_answers"]
    arguments.set = ["max_tokens=300", "max_sequence_tokens=32", "batch_tokens=128"]


def measure(arguments: argparse.Namespace) -> None:
    """Run what is missing, then report."""
    pairs = [pair.partition("=") for pair in arguments.set]
    tried = {key: type(PLAIN[key])(value) for key, _, value in pairs}
    if not arguments.report:
        # All settings of a seed before the next seed: an interrupted benchmark is balanced.
        for seed in arguments.seeds:
            for setting in arguments.settings:
                run(setting, seed, tried, arguments.project, arguments.kept)
    report(arguments)


def run(setting: str, seed: int, tried: dict[str, Any], project: Path, kept: Path) -> None:
    """Train with a setting, examine the model and keep answers and cost, unless a file has them."""
    base, curated = project / "models/base", project / "data/curated"
    items, documents = chosen_items(curated), chosen_documents(curated)
    if not (kept / "before.json").exists():
        write_json(kept / "before.json", examine(base, items, documents))
    result = kept / f"{setting}-{seed}.json"
    if result.exists():
        return
    params = PretrainParams(seed=seed, **PLAIN | SETTINGS[setting] | tried)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        replay = curated / "replay_text.parquet"
        start = time.perf_counter()
        pretrain(
            params,
            base=base,
            corpus=curated / "corpus.parquet",
            replay=answers_as_text(curated, base, folder) if setting in ANSWERS else replay,
            heldout=curated / "heldout_text.parquet",
            pretrained=folder / "pretrained",
            curve=folder / "curve",
            metrics=folder / "pretrain.json",
        )
        seconds = time.perf_counter() - start
        answers = examine(folder / "pretrained", items, documents)
        metrics = read_json(folder / "pretrain.json")
    record = {"setting": setting, "seed": seed, "params": params.model_dump(), "seconds": seconds}
    write_json(result, record | {"machine": machine(), "metrics": metrics} | answers)
    print(
        f"{result.name}: trained in {seconds:.0f} s,"
        f" examined after {time.perf_counter() - start:.0f} s",
        flush=True,
    )


def answers_as_text(curated: Path, base: Path, folder: Path) -> Path:
    """The replay instructions as documents: the base's chat template without its first token."""
    tokenizer = load_tokenizer(base)
    first = tokenizer.bos_token or ""
    documents = []
    for row in read_table(curated / "replay_instructions.parquet", INSTRUCTION).to_pylist():
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        kept = {name: row[name] for name in ("id", "entity", "source", "location")}
        documents.append(kept | {"text": text.removeprefix(first)})
    write_table(documents, DOCUMENT, folder / "answers.parquet")
    return folder / "answers.parquet"


def chosen_items(curated: Path) -> list[dict[str, Any]]:
    """A fixed random part of the general multiple-choice items of each category."""
    rows = read_table(curated / "items.parquet", ITEM).to_pylist()
    general = [row for row in rows if row["group"] == "general" and row["choices"]]
    ordered = sorted(general, key=lambda row: str(row["id"]))
    draw, chosen = np.random.default_rng(0), []
    for category in sorted({row["category"] for row in ordered}):
        of_category = [row for row in ordered if row["category"] == category]
        places = sorted(draw.permutation(len(of_category))[:ITEMS_PER_CATEGORY].tolist())
        chosen += [of_category[place] for place in places]
    return chosen


def chosen_documents(curated: Path) -> list[dict[str, Any]]:
    """A fixed random part of the domain's held-out documents."""
    rows = read_table(curated / "heldout_text.parquet", HELDOUT).to_pylist()
    domain = [row for row in rows if row["group"] == "domain"]
    ordered = sorted(domain, key=lambda row: str(row["id"]))
    places = np.random.default_rng(0).permutation(len(ordered))[:HELDOUT_DOCUMENTS].tolist()
    return [ordered[place] for place in places]


def examine(folder: Path, items: Rows, documents: Rows) -> dict[str, dict[str, float]]:
    """What the model at `folder` knows.

    `right`: for each item's id, 1 if the model prefers the right choice, else 0. `nats`: for each
    document's id, the nats that the model needs for its text.
    """
    tokenizer, model = load_tokenizer(folder), load_bf16(folder)
    questions = [encode_item(tokenizer, item["prompt"], item["choices"]) for item in items]
    found = score(lambda: model, questions, batch_tokens=2048)
    right = {
        item["id"]: float(choose(values, item["choices"]) == item["answer"])
        for item, values in zip(items, found, strict=True)
    }
    nats = {}
    for document in documents:
        encoded = encode_document(tokenizer, document["text"])
        windows = score(lambda: model, encoded, batch_tokens=2048)
        nats[document["id"]] = -sum(values[0] for values in windows)
    return {"right": right, "nats": nats}


def report(arguments: argparse.Namespace) -> None:
    """Compare each setting that has all its seeds; write the results and the picture."""
    curated, kept = arguments.project / "data/curated", arguments.kept
    records = [read_json(file) for file in sorted(kept.glob("*-*.json"))]
    runs: dict[str, list[Run]] = {
        setting: [record for record in records if record["setting"] == setting]
        for setting in SETTINGS
    }
    complete = {name: own for name, own in runs.items() if len(own) >= len(arguments.seeds)}
    rows = compare_runs(
        complete,
        before=read_json(kept / "before.json"),
        items=chosen_items(curated),
        documents=chosen_documents(curated),
        margin=MARGIN,
    )
    rows = [row | {"params": SETTINGS[row["setting"]]} for row in rows]
    circumstances = {"plain": PLAIN, "margin": MARGIN, "unit_of_domain_gain": "bits per byte"}
    write_results(
        "forgetting",
        arguments,
        headlines(rows),
        rows=[*rows, circumstances],
        packages=("torch", "transformers", "peft", "numpy", "scipy"),
        seeds=arguments.seeds,
        repetitions=len(arguments.seeds),
    )
    arguments.picture.write_text(frontier(rows, margin=MARGIN), encoding="utf-8")
    print_table(rows)


if __name__ == "__main__":
    main()
