"""Scratch files: screened rows stay on disk, not in memory, until all decisions are made."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import track

from lmadapt.core.tables import CURATED_TABLES, RAW_TABLES, count_groups, open_table
from lmadapt.curation.decisions import TRAINING_ROLES, RowDecision
from lmadapt.curation.parallel import Workers, map_groups, map_threads
from lmadapt.curation.screening import ScreeningRules, TrainingRows, screen_packed

STDERR = Console(stderr=True)


def screen_role(
    file: Path, scratch: Path, rules: ScreeningRules, training: TrainingRows, workers: Workers
) -> None:
    """Screen the raw table of a role: decisions go to `training`, cleaned rows to `scratch`."""
    schema = RAW_TABLES[rules.role]
    screened = map_groups(partial(screen_packed, rules=rules), file, schema, scratch, workers)
    folder = scratch / rules.role
    folder.mkdir()
    groups = count_groups(file, schema)
    progress = track(screened, f"Screening {rules.role}", total=groups, console=STDERR)
    for number, group in enumerate(progress):
        (folder / f"{number:09}").write_bytes(group.table)
        training.add(group)


def read_screened(scratch: Path, role: str, threads: int = 1) -> Iterator[pa.Table]:
    """The screened groups of a role, in the order of the raw table."""
    return map_threads(_read, sorted((scratch / role).iterdir()), threads)


def _read(file: Path) -> pa.Table:
    return pa.ipc.open_stream(file.read_bytes()).read_all()


def write_training_tables(
    rows: Sequence[RowDecision], scratch: Path, curated: Path, threads: int
) -> None:
    """Write the kept training rows, group by group, to the curated table of their split.

    `rows` are the decisions of all screened rows, in the order of roles and groups.
    """
    coming = iter(rows)
    with ExitStack() as stack:
        write = {
            table: stack.enter_context(open_table(schema, curated / f"{table}.parquet"))
            for table, schema in CURATED_TABLES.items()
            if table not in ("items", "decisions")
        }
        for role in TRAINING_ROLES:
            for group in read_screened(scratch, role, threads):
                splits = pa.array([next(coming).split for _ in range(len(group))])
                for split in filter(None, splits.unique().to_pylist()):
                    part = group.filter(pc.equal(splits, split))
                    if split == "heldout_text":
                        kind = "domain" if role == "corpus" else "general"
                        part = part.append_column("group", pa.array([kind] * len(part)))
                    write[split](part)
