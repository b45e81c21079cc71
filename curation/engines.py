"""Where groups of rows are screened: in threads of this process, or by Daft on a Ray cluster; the work is the same."""

import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from lmadapt.errors import UserError
from lmadapt.records import count_groups, read_group

Result = TypeVar("Result")
Work = Callable[[pa.Table], Result]
Read = Callable[[int], pa.Table]


def map_groups(
    work: Work[Result], file: Path, schema: pa.Schema, *, engine: str, threads: int | None, ray_address: str | None
) -> Iterator[Result]:
    """Results of `work` on each group of rows of a Parquet table, in their order.

    engine: local, with so many `threads` (None: one a core), of which each holds one group at a time; or ray, on the
    cluster at `ray_address` (None: one of this machine), whose nodes must see the file. Raises UserError when Ray is
    not installed, or the table is not of `schema`.
    """
    groups = range(count_groups(file))
    if engine == "ray":
        return _on_ray(work, partial(read_group, file.resolve(), schema), groups, ray_address)
    return _in_threads(work, partial(read_group, file, schema), groups, threads or os.cpu_count() or 1)


def _in_threads(work: Work[Result], read: Read, groups: Sequence[int], threads: int) -> Iterator[Result]:
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for group in groups:
            waiting.append(pool.submit(lambda group: work(read(group)), group))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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
