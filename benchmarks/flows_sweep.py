"""A part of benchmarks/flows.py: a sweep against its sets one after the other, on two workers.

The stages only wait, so that two cores are enough.
"""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.hand_off import remote_commit
from tests.flows.agents import Team, team
from tests.flows.sleeping import push_sleeping, rates

REPETITIONS, SETS, STAGE_SECONDS, SHARED_SECONDS = 2, 8, 20.0, 5.0
Row = dict[str, Any]


def measure_sweeps(folder: Path) -> list[Row]:
    """A row for each repetition: `speedup` is the seconds one after the other over a sweep's.

    Both run each set's stage on the same two workers, after a stage that all sets share and both
    run once: the gain is from sets that run side by side, not from sharing. Of single runs only the
    time from start to end counts, not the wait for the control worker. Raises RuntimeError when a
    run does not complete.
    """
    rows: list[Row] = []
    with team(folder, steps=1) as one:
        for name in ("cpu-one", "cpu-two"):
            one.start_worker(name, "cpu")
        push_sleeping(one, STAGE_SECONDS, SHARED_SECONDS)
        completed(one, "pipeline/nightly")  # imports, clones and Prefect's tables come first
        for repetition in range(REPETITIONS):
            rows.append(repeated(one, repetition))
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def repeated(one: Team, repetition: int) -> Row:
    """The sets one after the other, then side by side; each time on new data."""
    one.push(source_txt=f"in turn {repetition}")
    shared, prepared = completed(one, "pipeline/nightly", stages=["prepare"])
    each = {"revision": prepared, "stages": ["train"]}
    singly = [
        completed(one, "pipeline/nightly", params=changed, **each)[0] for changed in rates(SETS)
    ]
    one.push(source_txt=f"side by side {repetition}")
    before = one.ran().count("prepare")
    together, _ = completed(one, "sweep/sweep", sets=rates(SETS))
    times = one.ran().count("prepare") - before
    if times != 1:
        raise RuntimeError(f"the shared stage of a sweep ran {times} times")
    in_turn = shared + sum(singly)
    return {
        "what": "sweep",
        "repetition": repetition,
        "in_turn_seconds": in_turn,
        "shared_seconds": shared,
        "set_seconds": singly,
        "sweep_seconds": together,
        "speedup": in_turn / together,
        "sets": SETS,
        "workers": 2,
        "stage_seconds": STAGE_SECONDS,
        "load_15_minutes": os.getloadavg()[2],
    }


def completed(one: Team, deployed: str, **parameters: Any) -> tuple[float, str]:
    """Run a deployment; its seconds from start to end, and the commit on its branch or ""."""
    ended = one.ended(one.begin(deployed, **parameters), 900)
    if ended["state_type"] != "COMPLETED":
        raise RuntimeError(f"{deployed} with {parameters} ended as {ended['state_type']}")
    begin, end = (datetime.fromisoformat(ended[key]) for key in ("start_time", "end_time"))
    seconds = (end - begin).total_seconds()
    return seconds, remote_commit(one.folder / "project", f"runs/{ended['name']}")
