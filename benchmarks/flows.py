"""Stages as flows on agents: what Prefect adds, what a hand-off costs, and what a sweep saves.

A small project of three stages, real servers (PostgreSQL, Prefect, MLflow) and real workers, all on
this machine. Measures the seconds that Prefect adds to a stage, on agents and without a server; the
hand-off of an output of 1.5 GB between agents against two plain copies of it; how soon another
worker continues the stage of a lost one; and a sweep against its sets one after the other. A smoke
run hands off an output of 1 MB, and starts no server.

Takes about 20 minutes on two cores; writes benchmarks/results/flows.json.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.flows_sweep import measure_sweeps
from benchmarks.record import benchmark_parser, write_results
from flows.hand_off import hand_over
from flows.run_stage import dvc
from tests.flows.agents import Team, make_repository, push, run, team

REPETITIONS, STAGES, STEPS = 3, ("curate", "train", "register"), 2
HANDED_BYTES, SMOKE_BYTES = 1_500_000_000, 1_000_000
PLAIN = """
import sys
from pathlib import Path
from flows.hand_off import hand_over
print(hand_over(*sys.argv[1:], Path.cwd(), lambda line: None)[1])
"""
LOCAL = {
    "start": [["-c", "from flows.adapt import adapt; adapt(stages=[])"]],
    "flow": [["-m", "flows.adapt"]],
    "dvc": [["-m", "dvc", "repro", stage] for stage in STAGES],
}
BIG = """
stages:
  make:
    cmd: head -c BYTES /dev/urandom > big.bin
    outs: [big.bin]
  use:
    cmd: stat -c %s big.bin > size.txt
    deps: [big.bin]
    outs: [size.txt]
"""
Row = dict[str, Any]


def main() -> None:
    """Measure all parts in turn, and write the results."""
    arguments = benchmark_parser("flows", __doc__).parse_args()
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bench-flows-") as name:
        for part in ("agents", "lost", "local", "handoff", "sweep"):
            Path(name, part).mkdir()
        if arguments.smoke:
            measurements = hand_off_of_a_model(Path(name, "handoff"), rows, SMOKE_BYTES)
            servers = "a smoke run starts no server"
            left_out = dict.fromkeys(("agents", "local flow", "lost worker", "sweep"), servers)
        else:
            measurements = overhead(Path(name, "agents"), rows)
            measurements |= local_overhead(Path(name, "local"), rows)
            measurements |= hand_off_of_a_model(Path(name, "handoff"), rows, HANDED_BYTES)
            measurements |= lost_worker(Path(name, "lost"), rows)
            swept = measure_sweeps(Path(name, "sweep"))
            rows += swept
            measurements["sweep_speedup"] = statistics.median(row["speedup"] for row in swept)
    write_results(
        "flows",
        arguments,
        {key: round(value, 3) for key, value in measurements.items()},
        rows=rows,
        packages=["prefect", "dvc"],
        seeds=[],
        repetitions=1 if arguments.smoke else REPETITIONS,
        left_out=left_out,
    )


def note(rows: list[Row], what: str, **measured: Any) -> None:
    """Keep a row and print it."""
    rows.append({"what": what, **measured})
    print(rows[-1], file=sys.stderr, flush=True)


def overhead(folder: Path, rows: list[Row]) -> dict[str, float]:
    """Seconds that a stage in a run of `pipeline` takes beyond its hand-over as a plain program."""
    found = []
    with team(folder, steps=STEPS) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu")
        run(folder, "git", "clone", "-q", "-b", "main", "shared.git", "plain")
        for repetition in range(REPETITIONS):
            one.push(source_txt=f"flow {repetition}")
            ended = one.ended(one.begin(), 180)
            if ended["state_type"] != "COMPLETED":
                raise RuntimeError(f"a run ended as {ended['state_type']}")
            flow = seconds_between(ended["start_time"], ended["end_time"])
            plain = plainly(folder, one.push(source_txt=f"plain {repetition}"), repetition)
            found.append((flow - plain) / len(STAGES))
            note(
                rows, "overhead", flow_seconds=flow, plain_seconds=plain, overhead_seconds=found[-1]
            )
    return {"overhead_seconds_median": statistics.median(found)}


def plainly(folder: Path, commit: str, repetition: int) -> float:
    """Seconds of the three hand-overs without Prefect."""
    variables = {
        "RAN": str(folder / "ran.txt"),
        "PYTHONPATH": str(folder / "plain"),
        "DO_NOT_TRACK": "true",
    }
    shutil.rmtree(folder / "plain/.lmadapt", ignore_errors=True)
    began = time.perf_counter()
    for stage in STAGES:
        arguments = (stage, commit, f"runs/plain-{repetition}")
        commit = run(folder / "plain", sys.executable, "-c", PLAIN, *arguments, **variables)
    return time.perf_counter() - began


def seconds_between(begin: str, end: str) -> float:
    """The seconds between two times as Prefect writes them."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def local_overhead(folder: Path, rows: list[Row]) -> dict[str, float]:
    """Seconds that `python -m flows.adapt` takes for a stage beyond `dvc repro STAGE`.

    Its start, mostly of Prefect's own server, is not counted: `start_seconds`, once a run, is what
    it takes for no stage at all.
    """
    make_repository(folder, STEPS)
    project = folder / "project"
    variables = {
        "RAN": str(folder / "ran.txt"),
        "PYTHONPATH": str(project),
        "DO_NOT_TRACK": "true",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(folder / "prefect"),
    }
    found = []
    for repetition in range(-1, REPETITIONS):  # the first one makes Prefect's database
        seconds = {}
        for name, programs in LOCAL.items():
            (project / "source.txt").write_text(f"{name} {repetition}")
            shutil.rmtree(project / ".lmadapt", ignore_errors=True)
            began = time.perf_counter()
            for program in programs:
                run(project, sys.executable, *program, **variables)
            seconds[name] = time.perf_counter() - began
        found.append((seconds["flow"] - seconds["start"] - seconds["dvc"]) / len(STAGES))
        measured = {f"{name}_seconds": value for name, value in seconds.items()}
        note(rows, "local overhead", repetition=repetition, **measured, overhead_seconds=found[-1])
    return {"local_overhead_seconds_median": statistics.median(found[1:])}


def hand_off_of_a_model(folder: Path, rows: list[Row], size: int) -> dict[str, float]:
    """Seconds from a made output of `size` bytes to its use on another agent, over two copies'."""
    make_repository(folder, STEPS)
    project = folder / "project"
    graph = BIG.replace("BYTES", str(size))
    push(project, dvc_yaml=graph, _gitignore="/big.bin\n/size.txt\n.lmadapt/\n")
    dvc(["repro", "make"], project, ignore, {})
    commit = push(project)
    run(folder, "git", "clone", "-q", "-b", "main", "shared.git", "other")
    began = time.perf_counter()
    dvc(["push", "--run-cache", "make"], project, ignore, {})
    pushed = time.perf_counter() - began
    hand_over("use", commit, "runs/big", folder / "other", ignore)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    for copy in ("one", "two"):
        with (project / "big.bin").open("rb") as source, (folder / copy).open("wb") as target:
            shutil.copyfileobj(source, target, 16 << 20)
    copying = time.perf_counter() - began
    note(
        rows,
        "hand-off",
        seconds=seconds,
        push_seconds=pushed,
        two_copies_seconds=copying,
        bytes=size,
    )
    return {"handoff_vs_copy": seconds / copying}


def ignore(line: str) -> None:
    """Log nothing."""


def lost_worker(folder: Path, rows: list[Row]) -> dict[str, float]:
    """Seconds until the run of a lost machine is crashed, and then until another one runs it."""
    with team(folder, steps=40) as one:
        one.start_worker("cpu-agent", "cpu")
        one.start_worker("gpu-one", "gpu")
        one.begin()
        one.until(lambda: list((folder / "store/checkpoints").glob("runs/*/train/*.zip")), 120)
        one.start_worker("gpu-two", "gpu")
        one.power_off("gpu-one")
        lost = one.until(lambda: crashed(one), 200)
        resumed = one.until(lambda: "in gpu-two" in "".join(one.ran()), 120)
        note(rows, "lost worker", lost_seconds=lost, resume_seconds=resumed)
    return {"lost_worker_seconds": lost, "resume_seconds": resumed}


def crashed(one: Team) -> bool:
    """Whether the server calls a run crashed."""
    return any(found["state_type"] == "CRASHED" for found in one.runs())


if __name__ == "__main__":
    main()
