"""What each mitigation of forgetting keeps and costs: continued pre-training on the demo's corpus, three seeds.

Needs `dvc repro validate`. Each run is the stage `pretrain` itself, from models/base, on a fixed budget of tokens: the
step in which the demo forgets. Its model then answers a fixed random part of the general items and reads held-out text
of the domain, as does the base. One file a run is kept below --kept, and a run whose file is there is not repeated: an
interrupted benchmark goes on. `--report` writes the results of what is there.

Domain gain: bits per byte of held-out domain text, base less trained, mean over the seeds, with an interval that
resamples documents. General change: accuracy, trained less base, by item, mean over the seeds, with an interval that
allows for items of one cluster (lmadapt.verdict.statistics). Intervals have 90 % confidence.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import machine, write_results
from lmadapt.core.environment import prepare_environment
from lmadapt.core.files import read_json, write_json
from lmadapt.core.tables import DOCUMENT, HELDOUT, INSTRUCTION, ITEM, read_table, write_table
from lmadapt.models.loading import load_bf16, load_tokenizer
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import choose, encode_document, encode_item
from lmadapt.report.charts import axis
from lmadapt.verdict.statistics import bootstrap_ratio, noninferiority_p, paired_change
from stages.pretrain import PretrainParams, pretrain

LEARNING_RATE = 1e-3
PLAIN: dict[str, Any] = {
    "method": "lora",
    "lora_rank": 16,
    "lora_alpha": 32,
    "target_modules": "all-linear",
    "learning_rate": LEARNING_RATE,
    "lr_schedule": "cosine",
    "warmup_fraction": 0.1,
    "decay_fraction": 0.2,
    "weight_decay": 0.0,
    "max_tokens": 10000,
    "max_sequence_tokens": 256,
    "batch_tokens": 512,
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
ANSWERS = {
    "replay_answers"
}  # settings that replay general questions with answers, not the demo's general text
SEEDS = (0, 1, 2)
ITEMS_PER_CATEGORY, HELDOUT_DOCUMENTS = 75, 30
MARGIN, SIGNIFICANCE = 0.02, 0.05


def main() -> None:
    """Do the runs that are not there yet, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--project", type=Path, default=Path(), help="where models/ and data/curated are"
    )
    parser.add_argument("--kept", type=Path, default=Path(".lmadapt/bench/forgetting"))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--report", action="store_true", help="only write the results of the runs that are there"
    )
    parser.add_argument("--picture", type=Path, default=Path("docs/forgetting.svg"))
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="try other values of the stage's keys",
    )
    arguments = parser.parse_args()
    prepare_environment(offline=True)
    if not arguments.report:
        tried = {
            key: type(PLAIN[key])(value)
            for key, _, value in (pair.partition("=") for pair in arguments.set)
        }
        for (
            seed
        ) in arguments.seeds:  # all settings of a seed first: an interrupted benchmark is balanced
            for setting in arguments.settings:
                run(setting, seed, tried, arguments.project, arguments.kept)
    report(arguments.project, arguments.kept, arguments.picture)


def run(setting: str, seed: int, tried: dict[str, Any], project: Path, kept: Path) -> None:
    """Train with a setting and examine the model, unless it was done; keep the answers and the cost."""
    base, curated = project / "models/base", project / "data/curated"
    items, documents = chosen_items(curated), chosen_documents(curated)
    if not (kept / "before.json").exists():
        write_json(kept / "before.json", examined(base, items, documents))
    result = kept / f"{setting}-{seed}.json"
    if result.exists():
        return
    params = PretrainParams(seed=seed, **PLAIN | SETTINGS[setting] | tried)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        pretrain(
            params,
            base=base,
            corpus=curated / "corpus.parquet",
            replay=answers_as_text(curated, base, folder)
            if setting in ANSWERS
            else curated / "replay_text.parquet",
            heldout=curated / "heldout_text.parquet",
            pretrained=folder / "pretrained",
            curve=folder / "curve",
            metrics=folder / "pretrain.json",
        )
        seconds = time.perf_counter() - start
        answers = examined(folder / "pretrained", items, documents)
        metrics = read_json(folder / "pretrain.json")
    record = {"setting": setting, "seed": seed, "params": params.model_dump(), "seconds": seconds}
    write_json(result, record | {"machine": machine(), "metrics": metrics} | answers)
    print(
        f"{result.name}: {seconds:.0f} s, examined after {time.perf_counter() - start:.0f} s",
        flush=True,
    )


def answers_as_text(curated: Path, base: Path, folder: Path) -> Path:
    """The replay instructions as documents in the base's chat template, without the token that begins a text."""
    tokenizer = load_tokenizer(base)
    rows = read_table(curated / "replay_instructions.parquet", INSTRUCTION).to_pylist()
    texts = (tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows)
    kept = ("id", "entity", "source", "location")
    documents = (
        {name: row[name] for name in kept} | {"text": text.removeprefix(tokenizer.bos_token or "")}
        for row, text in zip(rows, texts, strict=True)
    )
    write_table(documents, DOCUMENT, folder / "answers.parquet")
    return folder / "answers.parquet"


def chosen_items(curated: Path) -> list[dict[str, Any]]:
    """A fixed random part of the general multiple-choice items of each category."""
    rows = read_table(curated / "items.parquet", ITEM).to_pylist()
    ordered = sorted(
        (r for r in rows if r["group"] == "general" and r["choices"]),
        key=lambda row: str(row["id"]),
    )
    draw, chosen = np.random.default_rng(0), []
    for category in sorted({row["category"] for row in ordered}):
        of_category = [row for row in ordered if row["category"] == category]
        places = sorted(draw.permutation(len(of_category))[:ITEMS_PER_CATEGORY].tolist())
        chosen += [of_category[place] for place in places]
    return chosen


def chosen_documents(curated: Path) -> list[dict[str, Any]]:
    """A fixed random part of the held-out documents of the domain."""
    rows = read_table(curated / "heldout_text.parquet", HELDOUT).to_pylist()
    ordered = sorted(
        (row for row in rows if row["group"] == "domain"), key=lambda row: str(row["id"])
    )
    return [
        ordered[place]
        for place in np.random.default_rng(0).permutation(len(ordered))[:HELDOUT_DOCUMENTS].tolist()
    ]


def examined(
    folder: Path, items: Sequence[dict[str, Any]], documents: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """1 or 0 for each item by id, whether the model prefers the right choice; and nats for each document by id."""
    tokenizer, model = load_tokenizer(folder), load_bf16(folder)
    questions = [encode_item(tokenizer, item["prompt"], item["choices"]) for item in items]
    found = score(lambda: model, questions, batch_tokens=2048)
    right = {
        item["id"]: float(choose(values, item["choices"]) == item["answer"])
        for item, values in zip(items, found, strict=True)
    }
    nats = {}
    for document in documents:
        windows = score(
            lambda: model, encode_document(tokenizer, document["text"]), batch_tokens=2048
        )
        nats[document["id"]] = -sum(values[0] for values in windows)
    return {"right": right, "nats": nats}


def report(project: Path, kept: Path, picture: Path) -> None:
    """Compare each setting that has all its seeds with the base, and with `none`; write results and picture."""
    items, documents = (
        chosen_items(project / "data/curated"),
        chosen_documents(project / "data/curated"),
    )
    before = read_json(kept / "before.json")
    records = [read_json(file) for file in sorted(kept.glob("*-*.json"))]
    runs = {
        setting: [record for record in records if record["setting"] == setting]
        for setting in SETTINGS
    }
    rows: list[dict[str, Any]] = []
    for setting, own in runs.items():
        if len(own) < len(SEEDS):
            continue
        general, beside_none = change(items, [before], own), change(items, runs["none"], own)
        gains = [gain(documents, before, [record])["value"] for record in own]
        row = {
            "setting": setting,
            "params": SETTINGS[setting],
            "domain_gain": gain(documents, before, own) | {"by_seed": gains},
            "general_change": {
                **{
                    name: getattr(general, name)
                    for name in ("n", "clusters", "difference", "interval", "worse_p")
                },
                "noninferiority_p": noninferiority_p(general, MARGIN),
                "by_seed": [change(items, [before], [record]).difference for record in own],
            },
            "general_against_none": {
                name: getattr(beside_none, name)
                for name in ("difference", "interval", "better_p", "worse_p")
            },
            "seconds": [record["seconds"] for record in own],
            "replay_fraction_met": [record["metrics"]["replay"]["fraction_met"] for record in own],
        }
        rows.append(
            row
            | {
                "domain_gain_ratio": row["domain_gain"]["value"]
                / (rows or [row])[0]["domain_gain"]["value"]
            }
        )
    measurements = {}
    for row in rows:
        for key, value in (("domain_gain", "value"), ("general_change", "difference")):
            name = f"{row['setting']}_{key}"
            measurements[name] = row[key][value]
            measurements[f"{name}_low"], measurements[f"{name}_high"] = row[key]["interval"]
    kept_general = [
        row for row in rows[1:] if row["general_change"]["noninferiority_p"] <= SIGNIFICANCE
    ]
    if kept_general:
        measurements["best_noninferior_domain_gain_ratio"] = max(
            row["domain_gain_ratio"] for row in kept_general
        )
    write_results(
        "forgetting",
        measurements,
        rows=[*rows, {"plain": PLAIN, "margin": MARGIN, "unit_of_domain_gain": "bits per byte"}],
        packages=("torch", "transformers", "peft", "numpy", "scipy"),
        seeds=SEEDS,
        repetitions=len(SEEDS),
    )
    picture.write_text(frontier(rows), encoding="utf-8")
    for row in rows:  # a table for docs/forgetting.md
        found, lost = row["domain_gain"], row["general_change"]
        (low, high), (worst, best) = found["interval"], (100 * end for end in lost["interval"])
        p = lost["noninferiority_p"]
        ratio, moved = 100 * row["domain_gain_ratio"], 100 * lost["difference"]
        gained = f"{found['value']:.3f} [{low:.3f}, {high:.3f}] | {ratio:.0f} %"
        print(
            f"| {row['setting']} | {gained} | {moved:+.1f} [{worst:+.1f}, {best:+.1f}] | {p:.2g} |"
        )


def change(
    items: Sequence[dict[str, Any]],
    before: Sequence[dict[str, Any]],
    after: Sequence[dict[str, Any]],
) -> Any:
    """How the mean scores of runs changed, item by item."""
    clusters = np.array([item["cluster"] or item["id"] for item in items])
    sides = [
        np.mean([[record["right"][item["id"]] for item in items] for record in side], 0)
        for side in (before, after)
    ]
    return paired_change(*sides, clusters, SIGNIFICANCE)


def gain(
    documents: Sequence[dict[str, Any]], before: dict[str, Any], after: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Bits per byte that the held-out documents cost less than before."""
    names = [document["id"] for document in documents]
    size = np.array([len(document["text"].encode()) for document in documents], float)
    trained = np.mean([[record["nats"][name] for name in names] for record in after], 0)
    bits = (np.array([before["nats"][name] for name in names]) - trained) / np.log(2)
    (interval,) = bootstrap_ratio(
        bits[None], size, np.array(names), significance=SIGNIFICANCE, seed=0
    )
    return {"value": float(bits.sum() / size.sum()), "interval": interval, "documents": len(names)}


def frontier(rows: Sequence[dict[str, Any]]) -> str:
    """An SVG of general change in points (across) against domain gain in bits per byte (up), with the margin."""
    across = axis(
        [
            0.0,
            -100 * MARGIN,
            *(100 * end for row in rows for end in row["general_change"]["interval"]),
        ]
    )
    up = axis([0.0, *(end for row in rows for end in row["domain_gain"]["interval"])])

    def x(points: float) -> float:
        return round(70 + 6.2 * across.percent(points), 1)

    def y(bits: float) -> float:
        return round(380 - 3.6 * up.percent(bits), 1)

    def text(left: float, top: float, words: str, anchor: str = "middle") -> str:
        return f'<text x="{left}" y="{top}" text-anchor="{anchor}">{words}</text>'

    parts = [text(x(tick), 398, f"{tick:g}") for tick in across.ticks]
    parts += [text(62, y(tick) + 4, f"{tick:g}", "end") for tick in up.ticks]
    parts += [f'<path class="grid" d="M{x(tick)} 20V380"/>' for tick in across.ticks]
    parts += [f'<path class="grid" d="M70 {y(tick)}H690"/>' for tick in up.ticks]
    parts.append(f'<path class="margin" d="M{x(-100 * MARGIN)} 20V380"/>')
    for row in rows:
        left, right = (x(100 * end) for end in row["general_change"]["interval"])
        bottom, top = (y(end) for end in row["domain_gain"]["interval"])
        at, height = x(100 * row["general_change"]["difference"]), y(row["domain_gain"]["value"])
        parts.append(f'<path class="interval" d="M{left} {height}H{right}M{at} {bottom}V{top}"/>')
        parts.append(f'<circle cx="{at}" cy="{height}" r="5"/>')
        parts.append(text(at + 8, height - 8, row["setting"].replace("_", " "), "start"))
    parts.append(text(380, 425, "change of general accuracy, points (dashed: the margin)"))
    parts.append(
        f'<g transform="translate(18 200) rotate(-90)">{text(0, 0, "domain gain, bits per byte")}</g>'
    )
    style = (
        "text{font:13px sans-serif;fill:#333}.grid{stroke:#ddd}.interval{stroke:#2a6f97;stroke-width:1.5;opacity:.45;"
        "fill:none}.margin{stroke:#b23a48;stroke-dasharray:6 4}circle{fill:#2a6f97}"
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 440" role="img" '
        'aria-label="Domain gain against change of general accuracy, by mitigation">'
        f'<style>{style}</style><rect width="720" height="440" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    main()
