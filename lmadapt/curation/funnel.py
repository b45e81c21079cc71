"""The funnel: how many rows of each role are left after each step of curation."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmadapt.core.files import atomic_file
from lmadapt.curation.decisions import ROLES, RowDecision


@dataclass(frozen=True)
class FunnelPoint:
    """Number of rows of one role after one step."""

    step: str
    role: str
    rows: int


def count_rows(rows: Sequence[RowDecision], step: str) -> list[FunnelPoint]:
    """A point for each role."""
    counts = Counter(row.role for row in rows)
    return [FunnelPoint(step, role, counts[role]) for role in ROLES]


def write_funnel(points: Sequence[FunnelPoint], target: Path) -> None:
    """Write the points as CSV for `dvc plots`, which draws bars in the order of their names."""
    steps = list(dict.fromkeys(point.step for point in points))
    with atomic_file(target) as file, file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["bar", "stage", "role", "documents"])
        for point in points:
            bar = f"{point.role} {steps.index(point.step)} {point.step}"
            writer.writerow([bar, point.step, point.role, point.rows])
