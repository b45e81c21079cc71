"""A sweep against its sets one after the other, on two workers; the stages only wait, so that two cores are enough.

A part of benchmarks/flows.py.
"""

import os
import statistics
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.git import git
from tests.flows.agents import Team, team
from tests.flows.sleeping import push_sleeping, rates

REPETITIONS, SETS, STAGE_SECONDS, SHARED_SECONDS = 2, 8, 20.0, 5.0
Row = dict[str, Any]


def sweep_rows(folder: Path) -> tuple[list[Row], dict[str, float]]:
    """What was measured, and `sweep_speedup`: seconds of the sets one after the other over those of a sweep of them.

    The median of repetitions, in which both take turns. Both run each set's stage on the same two workers, after the
    one that all share, which both run once: what counts is that sets run side by side, not that they share. Of single
    runs only the time from start to end is taken, not the wait for the control worker. Raises RuntimeError when a run
    does not complete.
    """
    rows: list[Row] = []
    with team(folder, steps=1) as one:
        for name in ("cpu-one", "cpu-two"):
            one.start_worker(name, "cpu")
        push_sleeping(one, STAGE_SECONDS, SHARED_SECONDS)
        completed(one, "pipeline/nightly")  # imports, clones, Prefect's tables
        for repetition in range(REPETITIONS):
            rows.append(repeated(one, repetition))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows, {"sweep_speedup": statistics.median(row["speedup"] for row in rows)}


def repeated(one: Team, repetition: int) -> Row:
    """The sets in turn, then side by side, both on data that no stage has seen."""
    one.push(source_txt=f"in turn {repetition}")
    shared, prepared = completed(one, "pipeline/nightly", stages=["prepare"])
    each = {"revision": prepared, "stages": ["train"]}
    singly = [
        completed(one, "pipeline/nightly", params=changed, **each)[0] for changed in rates(SETS)
    ]
    one.push(source_txt=f"side by side {repetition}")
    before = one.ran().count("prepare")
    together, _ = completed(one, "sweep/sweep", sets=rates(SETS))
    if (times := one.ran().count("prepare") - before) != 1:
        raise RuntimeError(f"the shared stage of a sweep ran {times} times")
    in_turn = shared + sum(singly)
    found = {
        "in_turn_seconds": in_turn,
        "shared_seconds": shared,
        "set_seconds": singly,
        "sweep_seconds": together,
    }
    size = {
        "sets": SETS,
        "workers": 2,
        "stage_seconds": STAGE_SECONDS,
        "load_15_minutes": os.getloadavg()[2],
    }
    return {
        "what": "sweep",
        "repetition": repetition,
        **found,
        "speedup": in_turn / together,
        **size,
    }


def completed(one: Team, deployed: str, **parameters: Any) -> tuple[float, str]:
    """Seconds from start to end of a run of a deployment, and the commit on its branch; empty where it has none."""
    ended = one.ended(one.begin(deployed, **parameters), 900)
    if ended["state_type"] != "COMPLETED":
        raise RuntimeError(f"{deployed} with {parameters} ended as {ended['state_type']}")
    begin, end = (datetime.fromisoformat(ended[key]) for key in ("start_time", "end_time"))
    seconds = (end - begin).total_seconds()
    shared = git(one.folder / "project", "ls-remote", "origin", f"refs/heads/runs/{ended['name']}")
    return seconds, shared.partition("\t")[0]
