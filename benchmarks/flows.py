"""Flows on agents: what Prefect adds to a stage, what a hand-off costs, how soon a lost machine's work goes on, sweeps.

On a small project of three stages with real servers (PostgreSQL, Prefect, MLflow) and workers, all on this machine.
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

from benchmarks.flows_sweep import sweep_rows
from benchmarks.record import write_results
from flows.hand_off import hand_over
from flows.run_stage import dvc
from tests.flows.agents import Team, make_repository, push, run, team

REPETITIONS, STAGES, STEPS = 3, ("curate", "train", "register"), 2
HANDED_BYTES = 1_500_000_000
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
BIG = f"""
stages:
  make:
    cmd: head -c {HANDED_BYTES} /dev/urandom > big.bin
    outs: [big.bin]
  use:
    cmd: stat -c %s big.bin > size.txt
    deps: [big.bin]
    outs: [size.txt]
"""
Row = dict[str, Any]


def main() -> None:
    """Measure all in turn, write the results."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-flows-") as name:
        for part in ("agents", "lost", "local", "handoff", "sweep"):
            Path(name, part).mkdir()
        measurements = overhead(Path(name, "agents"), rows)
        measurements |= local_overhead(Path(name, "local"), rows)
        measurements |= hand_off_of_a_model(Path(name, "handoff"), rows)
        measurements |= lost_worker(Path(name, "lost"), rows)
        swept, speedup = sweep_rows(Path(name, "sweep"))
        rows += swept
        measurements |= speedup
    rounded = {key: round(value, 3) for key, value in measurements.items()}
    write_results(
        "flows", rounded, rows=rows, packages=["prefect", "dvc"], seeds=[], repetitions=REPETITIONS
    )


def note(rows: list[Row], what: str, **measured: Any) -> None:
    """Keep a row and show it."""
    rows.append({"what": what, **measured})
    print(rows[-1], file=sys.stderr, flush=True)


def overhead(folder: Path, rows: list[Row]) -> dict[str, float]:
    """Seconds a stage takes longer in a run of `pipeline` than the same hand-over as a program of its own."""
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
    """From one time of Prefect's to another."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def local_overhead(folder: Path, rows: list[Row]) -> dict[str, float]:
    """Seconds that `python -m flows.adapt` takes longer for a stage than `dvc repro STAGE`, its start apart.

    Its start, of Prefect's own server above all, is what it takes for no stage at all: `start_seconds`, once a run.
    """
    make_repository(folder, STEPS)
    project = folder / "project"
    variables = {"RAN": str(folder / "ran.txt"), "PYTHONPATH": str(project), "DO_NOT_TRACK": "true"}
    variables |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(folder / "prefect"),
    }
    found = []
    for repetition in range(-1, REPETITIONS):  # the first makes Prefect's database
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


def hand_off_of_a_model(folder: Path, rows: list[Row]) -> dict[str, float]:
    """Seconds from a made output to its use on another agent, over those of two plain copies of it."""
    make_repository(folder, STEPS)
    project = folder / "project"
    push(project, dvc_yaml=BIG, _gitignore="/big.bin\n/size.txt\n.lmadapt/\n")
    dvc(["repro", "make"], project, lambda line: None, {})
    commit = push(project)
    run(folder, "git", "clone", "-q", "-b", "main", "shared.git", "other")
    began = time.perf_counter()
    dvc(["push", "--run-cache", "make"], project, lambda line: None, {})
    pushed = time.perf_counter() - began
    hand_over("use", commit, "runs/big", folder / "other", lambda line: None)
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
        bytes=HANDED_BYTES,
    )
    return {"handoff_vs_copy": seconds / copying}


def lost_worker(folder: Path, rows: list[Row]) -> dict[str, float]:
    """Seconds from the end of a machine to its run being taken for lost, and from there to its stage on another."""
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
    """Whether the server takes a run for lost."""
    return any(found["state_type"] == "CRASHED" for found in one.runs())


if __name__ == "__main__":
    main()
