"""Where groups of rows are screened: in processes of this machine or by Daft on a Ray cluster; the same work."""

import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from lmadapt.errors import UserError
from lmadapt.records import count_groups, read_group

Result = TypeVar("Result")
Work = Callable[[pa.Table], Result]
Read = Callable[[int], pa.Table]

GROUPS_A_PROCESS = 4  # fewer are screened sooner than another process has started


def map_groups(
    work: Work[Result], file: Path, schema: pa.Schema, *, engine: str, processes: int | None, ray_address: str | None
) -> Iterator[Result]:
    """Results of `work` on each group of rows of a Parquet table, in their order.

    engine: local, in up to so many `processes` (None: one a core), of which each holds one group at a time; or ray, on
    the cluster at `ray_address` (None: one of this machine), whose nodes must see the file. Raises UserError when Ray
    is not installed, or the table is not of `schema`.
    """
    groups = range(count_groups(file))
    read = partial(read_group, file.resolve(), schema)
    if engine == "ray":
        return _on_ray(work, read, groups, ray_address)
    processes = min(processes or os.cpu_count() or 1, len(groups) // GROUPS_A_PROCESS)
    return _in_processes(work, read, groups, processes) if processes > 1 else (work(read(group)) for group in groups)


def _in_processes(work: Work[Result], read: Read, groups: Sequence[int], processes: int) -> Iterator[Result]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["curation.screening"])
    with ProcessPoolExecutor(processes, context, _receive, (work, read)) as pool:
        waiting: deque[Future[Result]] = deque()
        for group in groups:
            waiting.append(pool.submit(_on_received, group))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_received: list[Any] = []  # what a process of the pool works with, sent to it once


def _receive(work: Work[Any], read: Read) -> None:
    _received[:] = work, read
    threading.Thread(target=_end_with_owner, daemon=True).start()


def _end_with_owner() -> None:
    """End this process when the one that owns the pool is gone, killed or not: its parent, the fork server, stays."""
    owner = multiprocessing.parent_process()
    wait([owner.sentinel] if owner else [])
    os._exit(1)


def _on_received(group: int) -> Any:
    work, read = _received
    return work(read(group))


def _on_ray(work: Work[Result], read: Read, groups: Sequence[int], address: str | None) -> Iterator[Result]:
    try:
        import daft
        import ray  # noqa: F401 - Daft imports it itself, but late
    except ImportError:
        raise UserError("curate.engine: ray is not installed; pip install 'lmadapt[ray]', or use local") from None
    daft.set_runner_ray(address, noop_if_initialized=True)

    @daft.udf(return_dtype=daft.DataType.binary())
    def run(numbers: daft.Series) -> list[bytes]:
        return [pickle.dumps(work(read(number))) for number in numbers.to_pylist()]

    frame = daft.from_pydict({"group": list(groups)}).into_partitions(max(1, len(groups)))
    ready: dict[int, bytes] = {}  # what came before its turn
    turn = 0
    for row in frame.with_column("result", run(daft.col("group"))).iter_rows():
        ready[row["group"]] = row["result"]
        while turn in ready:
            yield pickle.loads(ready.pop(turn))
            turn += 1
