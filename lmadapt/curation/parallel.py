"""Where groups of rows are screened: processes of this machine, or Daft on a Ray cluster."""

import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from lmadapt.core.errors import UserError
from lmadapt.core.tables import count_groups, read_group

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[pa.Table], Result]
Read = Callable[[int], pa.Table]

GROUPS_A_PROCESS = 4  # screening fewer takes less time than starting another process


@dataclass(frozen=True)
class Workers:
    """Who screens groups."""

    engine: str  # local | ray
    processes: int | None = None  # of engine local; None: one a core
    ray_address: str | None = None  # of engine ray; None: a cluster on this machine


def start_processes(groups: int, workers: Workers) -> int:
    """How many processes are worth starting for that many groups.

    The server that they are forked from starts to load when there is more than one.
    """
    processes = min(workers.processes or os.cpu_count() or 1, groups // GROUPS_A_PROCESS)
    if workers.engine == "local" and processes > 1:
        multiprocessing.set_forkserver_preload(["lmadapt.curation.preload"])
        forkserver.ensure_running()
    return processes


def map_groups(
    work: Work[Result], file: Path, schema: pa.Schema, scratch: Path, workers: Workers
) -> Iterator[Result]:
    """Results of `work` on each group of rows of a Parquet table, in their order.

    Each local process holds one group at a time; its results pass through files in `scratch`.
    The nodes of a Ray cluster must see the file. Raises UserError when Ray is not installed, or
    the columns of the table are not those of `schema`.
    """
    groups = range(count_groups(file, schema))
    read = partial(read_group, file.resolve(), schema)
    if workers.engine == "ray":
        return _on_ray(work, read, groups, workers.ray_address)
    processes = start_processes(len(groups), workers)
    if processes > 1:
        return _in_processes(work, read, groups, processes, scratch)
    return (work(read(group)) for group in groups)


def map_threads(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Results of `work` on each item, in their order; `threads` work ahead if more than one."""
    if threads <= 1:
        return map(work, items)
    return _ahead(ThreadPoolExecutor(threads), work, items, 2 * threads)


def _in_processes(
    work: Work[Result], read: Read, groups: Sequence[int], processes: int, scratch: Path
) -> Iterator[Result]:
    sent = (work, read, scratch.resolve())
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("forkserver"), _receive, sent)
    for file in _ahead(pool, _on_received, groups, 2 * processes):
        with file.open("rb") as stream:
            yield pickle.load(stream)
        file.unlink()


def _ahead(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Iterator[Result]:
    """Results in order, with at most `most` of them waiting."""
    with pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_received: list[Any] = []  # what a process of the pool works with, sent to it once


def _receive(work: Work[Any], read: Read, scratch: Path) -> None:
    _received[:] = work, read, scratch
    threading.Thread(target=_end_with_owner, daemon=True).start()


def _end_with_owner() -> None:
    """End this process when the owner of the pool has ended, even if it was killed.

    The parent of this process does not tell: it is the fork server, which stays.
    """
    owner = multiprocessing.parent_process()
    wait([owner.sentinel] if owner else [])
    os._exit(1)


def _on_received(group: int) -> Path:
    """The file that holds the result: a pipe would take it 64 KiB at a time."""
    work, read, scratch = _received
    file: Path = scratch / f"{group}.pickle"
    with file.open("wb") as stream:
        pickle.dump(work(read(group)), stream, protocol=5)
    return file


def _on_ray(
    work: Work[Result], read: Read, groups: Sequence[int], address: str | None
) -> Iterator[Result]:
    try:
        import daft
        import ray  # noqa: F401 - Daft imports it too, but late
    except ImportError:
        raise UserError(
            "curate.engine: ray is not installed; pip install 'lmadapt[ray]', or use local"
        ) from None
    daft.set_runner_ray(address, noop_if_initialized=True)

    @daft.udf(return_dtype=daft.DataType.binary())
    def run(numbers: daft.Series) -> list[bytes]:
        return [pickle.dumps(work(read(number))) for number in numbers.to_pylist()]

    frame = daft.from_pydict({"group": list(groups)}).into_partitions(max(1, len(groups)))
    ready: dict[int, bytes] = {}  # results that came before their turn
    turn = 0
    for row in frame.with_column("result", run(daft.col("group"))).iter_rows():
        ready[row["group"]] = row["result"]
        while turn in ready:
            yield pickle.loads(ready.pop(turn))
            turn += 1
