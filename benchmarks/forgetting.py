"""What each mitigation of forgetting keeps and costs: the demo's instructions, three seeds, the same items.

Needs `dvc repro pretrain`. Each run is the stage `sft` itself, from models/pretrained, on a fixed budget of tokens; its
adapter then answers a fixed random part of the evaluation items, as does the model before. One file a run is kept below
--kept, and a run whose file is there is not repeated: an interrupted benchmark goes on. `--report` writes the results
of what is there. Change: the mean score over the seeds less the score before, by item; the interval has 90 % confidence
and allows for items of one cluster (lmadapt.statistics).
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import machine
from lmadapt.charts import axis
from lmadapt.environment import prepare_environment
from lmadapt.files import read_json, write_json
from lmadapt.models import load_for_inference, load_tokenizer
from lmadapt.records import ITEM, read_table
from lmadapt.scoring import choose, encode_item, score
from lmadapt.statistics import PairedChange, noninferiority_p, paired_change
from stages.sft import SftParams, sft

LEARNING_RATE = 2e-3
PLAIN: dict[str, Any] = {
    "lora_rank": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "learning_rate": LEARNING_RATE,
    "lr_schedule": "cosine",
    "warmup_fraction": 0.1,
    "weight_decay": 0.0,
    "max_tokens": 14000,
    "max_sequence_tokens": 512,
    "batch_tokens": 1024,
    "replay_fraction": 0.0,
    "replay_source": "general",
    "kl_weight": 0.0,
    "kl_tokens": "all",
    "l2_sp_weight": 0.0,
    "ewc_weight": 0.0,
    "fisher_examples": 64,
    "frozen_layers": 0,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "low_learning_rate": {"learning_rate": LEARNING_RATE / 5},
    "replay": {"replay_fraction": 0.2},
    "self_replay": {"replay_fraction": 0.2, "replay_source": "self"},
    "kl": {"kl_weight": 1.0},
    "ewc": {"ewc_weight": 1e4},
    "l2_sp": {"l2_sp_weight": 0.01},
    "retain": {"target_modules": "retain", "lora_rank": 10, "lora_alpha": 20},
}
SEEDS = (0, 1, 2)
ITEMS_PER_CATEGORY = {"general": 75, "domain": 60}
MARGIN, SIGNIFICANCE = 0.02, 0.05


def main() -> None:
    """Do the runs that are not there yet, or write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=Path(), help="where models/ and data/curated are")
    parser.add_argument("--kept", type=Path, default=Path(".lmadapt/bench/forgetting"))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--report", action="store_true", help="only write the results of the runs that are there")
    parser.add_argument("--picture", type=Path, default=Path("docs/forgetting.svg"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="try other values of sft's keys")
    arguments = parser.parse_args()
    prepare_environment(offline=True)
    if not arguments.report:
        tried = {key: type(PLAIN[key])(value) for key, _, value in (pair.partition("=") for pair in arguments.set)}
        for seed in arguments.seeds:  # all settings of a seed first: an interrupted benchmark is balanced
            for setting in arguments.settings:
                run(setting, seed, tried, arguments.project, arguments.kept)
    report(arguments.project, arguments.kept, arguments.picture)


def run(setting: str, seed: int, tried: dict[str, Any], project: Path, kept: Path) -> None:
    """Train with a setting and score the items, unless it was done; keep the answers and the cost."""
    items = chosen_items(project)
    pretrained = project / "models/pretrained"
    before = kept / "before.json"
    if not before.exists():
        write_json(before, {"scores": answered(pretrained, None, items)})
    result = kept / f"{setting}-{seed}.json"
    if result.exists():
        return
    params = SftParams(seed=seed, **PLAIN | SETTINGS[setting] | tried)
    curated = project / "data/curated"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        sft(
            params,
            base=pretrained,
            pristine=project / "models/base",
            instructions=curated / "instructions.parquet",
            replay=curated / "replay_instructions.parquet",
            adapter=folder / "adapter",
            curve=folder / "curve",
            metrics=folder / "sft.json",
        )
        seconds = time.perf_counter() - start
        scores = answered(pretrained, folder / "adapter", items)
        metrics = read_json(folder / "sft.json")
    record = {"setting": setting, "seed": seed, "params": params.model_dump(), "sft_seconds": seconds}
    write_json(result, record | {"machine": machine(), "metrics": metrics, "scores": scores})
    print(f"{result.name}: {seconds:.0f} s, scored after {time.perf_counter() - start:.0f} s", flush=True)


def chosen_items(project: Path) -> list[dict[str, Any]]:
    """A fixed random part of the multiple-choice items of each category."""
    rows = read_table(project / "data/curated/items.parquet", ITEM).to_pylist()
    ordered = sorted((row for row in rows if row["answer"] is not None), key=lambda row: str(row["id"]))
    draw, chosen = np.random.default_rng(0), []
    for group, count in ITEMS_PER_CATEGORY.items():
        for category in sorted({row["category"] for row in ordered if row["group"] == group}):
            of_category = [row for row in ordered if (row["group"], row["category"]) == (group, category)]
            chosen += [of_category[place] for place in sorted(draw.permutation(len(of_category))[:count].tolist())]
    return chosen


def answered(base: Path, adapter: Path | None, items: Sequence[dict[str, Any]]) -> dict[str, float]:
    """1 or 0 for each item by id: whether the model prefers the right choice."""
    tokenizer = load_tokenizer(adapter or base)
    model = load_for_inference(base, precision="nf4", adapter=adapter)
    questions = [encode_item(tokenizer, item["prompt"], item["choices"]) for item in items]
    found = score(lambda: model, questions, batch_tokens=2048)
    pairs = zip(items, found, strict=True)
    return {item["id"]: float(choose(values, item["choices"]) == item["answer"]) for item, values in pairs}


def report(project: Path, kept: Path, picture: Path) -> None:
    """Compare each setting that has all its seeds with the model before it, and with `none`; write results and plot."""
    items = {item["id"]: item for item in chosen_items(project)}
    before = read_json(kept / "before.json")["scores"]
    runs = [read_json(file) for file in sorted(kept.glob("*-*.json"))]
    rows: list[dict[str, Any]] = []
    unmitigated: dict[str, dict[str, float]] = {}
    for setting in SETTINGS:
        own = [record for record in runs if record["setting"] == setting]
        if len(own) < len(SEEDS):
            continue
        after = {item: float(np.mean([record["scores"][item] for record in own])) for item in items}
        unmitigated.setdefault("scores", after)
        row: dict[str, Any] = {"setting": setting, "params": SETTINGS[setting], "seeds": len(own)}
        for group in ("domain", "general"):
            change = compared(items, before, after, group)
            row[group] = shown(change)
            row[f"{group}_against_none"] = shown(compared(items, unmitigated["scores"], after, group))
            row[f"{group}_by_seed"] = [compared(items, before, r["scores"], group).difference for r in own]
            if group == "general":
                row["noninferiority_p"] = noninferiority_p(change, MARGIN)
        row["sft_seconds"] = [record["sft_seconds"] for record in own]
        row["replay_fraction_met"] = [record["metrics"]["replay"]["fraction_met"] for record in own]
        row["domain_gain_ratio"] = row["domain"]["difference"] / (rows[0] if rows else row)["domain"]["difference"]
        rows.append(row)
    measurements = {}
    for row in rows:
        for name, group in (("domain_gain", "domain"), ("general_change", "general")):
            key = f"{row['setting']}_{name}"
            measurements[key] = row[group]["difference"]
            measurements[f"{key}_low"], measurements[f"{key}_high"] = row[group]["interval"]
    kept_general = [row for row in rows[1:] if row["noninferiority_p"] <= SIGNIFICANCE]
    if kept_general:
        measurements["best_noninferior_domain_gain_ratio"] = max(row["domain_gain_ratio"] for row in kept_general)
    write_results(
        "forgetting",
        measurements,
        rows=[*rows, {"plain": PLAIN, "items": {group: len(of(items, group)) for group in ("domain", "general")}}],
        packages=("torch", "transformers", "peft", "bitsandbytes"),
        seeds=SEEDS,
        repetitions=len(SEEDS),
    )
    picture.write_text(frontier(rows), encoding="utf-8")


def of(items: dict[str, dict[str, Any]], group: str) -> list[str]:
    """The ids of a group's items."""
    return [name for name, item in items.items() if item["group"] == group]


def compared(
    items: dict[str, dict[str, Any]], before: dict[str, float], after: dict[str, float], group: str
) -> PairedChange:
    """The change on the items of a group."""
    names = of(items, group)
    clusters = np.array([items[name]["cluster"] or name for name in names])
    sides = (np.array([side[name] for name in names]) for side in (before, after))
    return paired_change(*sides, clusters, SIGNIFICANCE)


def shown(change: PairedChange) -> dict[str, Any]:
    """What is kept of a change."""
    facts = {name: getattr(change, name) for name in ("n", "clusters", "difference", "better_p", "worse_p")}
    return facts | {"interval": list(change.interval)}


def frontier(rows: Sequence[dict[str, Any]]) -> str:
    """An SVG of general change (across) against domain gain (up), in points, with intervals and the margin."""
    across = axis([0.0, -100 * MARGIN, *(100 * end for row in rows for end in row["general"]["interval"])])
    up = axis([0.0, *(100 * end for row in rows for end in row["domain"]["interval"])])

    def x(share: float) -> float:
        return round(70 + 6.2 * across.percent(100 * share), 1)

    def y(share: float) -> float:
        return round(380 - 3.6 * up.percent(100 * share), 1)

    def text(left: float, top: float, words: str, anchor: str = "middle") -> str:
        return f'<text x="{left}" y="{top}" text-anchor="{anchor}">{words}</text>'

    parts = [text(x(tick / 100), 398, f"{tick:g}") for tick in across.ticks]
    parts += [text(62, y(tick / 100) + 4, f"{tick:g}", "end") for tick in up.ticks]
    parts += [f'<path class="grid" d="M{x(tick / 100)} 20V380"/>' for tick in across.ticks]
    parts += [f'<path class="grid" d="M70 {y(tick / 100)}H690"/>' for tick in up.ticks]
    parts.append(f'<path class="margin" d="M{x(-MARGIN)} 20V380"/>')
    for row in rows:
        (left, right), (bottom, top) = row["general"]["interval"], row["domain"]["interval"]
        at, height = x(row["general"]["difference"]), y(row["domain"]["difference"])
        parts.append(f'<path class="interval" d="M{x(left)} {height}H{x(right)}M{at} {y(bottom)}V{y(top)}"/>')
        parts.append(f'<circle cx="{at}" cy="{height}" r="5"/>')
        parts.append(text(at + 8, height - 8, row["setting"].replace("_", " "), "start"))
    parts.append(text(380, 425, "change of general accuracy, points (dashed: the margin)"))
    parts.append(f'<g transform="translate(18 200) rotate(-90)">{text(0, 0, "gain of domain accuracy, points")}</g>')
    style = (
        "text{font:13px sans-serif;fill:#333}.grid{stroke:#ddd}.interval{stroke:#2a6f97;stroke-width:1.5;opacity:.45;"
        "fill:none}.margin{stroke:#b23a48;stroke-dasharray:6 4}circle{fill:#2a6f97}"
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 440" role="img" '
        'aria-label="Domain gain against change of general ability, by mitigation">'
        f'<style>{style}</style><rect width="720" height="440" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    main()
