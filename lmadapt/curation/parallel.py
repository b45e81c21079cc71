"""Where groups of rows are screened: in processes of this machine or by Daft on a Ray cluster; the same work."""

import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
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

GROUPS_A_PROCESS = 4  # fewer are screened sooner than another process has started


def start_processes(
    groups: int, *, engine: str, processes: int | None, ray_address: str | None
) -> int:
    """How many processes are worth their start for so many groups; what they are forked from begins to load."""
    processes = min(processes or os.cpu_count() or 1, groups // GROUPS_A_PROCESS)
    if engine == "local" and processes > 1:
        multiprocessing.set_forkserver_preload(["lmadapt.curation.preload"])
        forkserver.ensure_running()
    return processes


def map_groups(
    work: Work[Result],
    file: Path,
    schema: pa.Schema,
    scratch: Path,
    *,
    engine: str,
    processes: int | None,
    ray_address: str | None,
) -> Iterator[Result]:
    """Results of `work` on each group of rows of a Parquet table, in their order.

    engine: local, in up to so many `processes` (None: one a core), of which each holds one group at a time; or ray, on
    the cluster at `ray_address` (None: one of this machine), whose nodes must see the file. Results of processes pass
    through files in `scratch`. Raises UserError when Ray is not installed, or the table is not of `schema`.
    """
    groups = range(count_groups(file, schema))
    read = partial(read_group, file.resolve(), schema)
    if engine == "ray":
        return _on_ray(work, read, groups, ray_address)
    number = start_processes(
        len(groups), engine=engine, processes=processes, ray_address=ray_address
    )
    return (
        _in_processes(work, read, groups, number, scratch)
        if number > 1
        else (work(read(group)) for group in groups)
    )


def map_threads(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Results of `work` on each item, in their order; done ahead in so many threads, or one by one for a single one."""
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
    """End this process when the one that owns the pool is gone, killed or not: its parent, the fork server, stays."""
    owner = multiprocessing.parent_process()
    wait([owner.sentinel] if owner else [])
    os._exit(1)


def _on_received(group: int) -> Path:
    """Where the result is: it goes through a file, since a pipe would take it 64 KiB at a time."""
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
        import ray  # noqa: F401 - Daft imports it itself, but late
    except ImportError:
        raise UserError(
            "curate.engine: ray is not installed; pip install 'lmadapt[ray]', or use local"
        ) from None
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
