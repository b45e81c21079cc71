"""Reads the files in plots/: the loss curves of the trainings and the funnel of curation."""

import csv
import math
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.report.charts import Point

FOLDERS_WITHOUT_MEANING = ("plots", "metrics")  # in the name of a curve


def read_loss_curves(folder: Path) -> dict[str, list[Point]]:
    """The loss over the column `step` in each TSV file below `folder`, named after the file.

    Points that are no finite number are left out, and files without a loss too.
    """
    curves = {}
    for file in sorted(folder.rglob("*.tsv")):
        if points := _losses(file):
            place = file.relative_to(folder).with_suffix("").parts
            name = " ".join(part for part in place if part not in FOLDERS_WITHOUT_MEANING)
            curves[name] = points
    return curves


def _losses(file: Path) -> list[Point]:
    """Step and loss of each row, from the first column whose name contains "loss"."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    columns = [column for column in (rows[0] if rows else {}) if "loss" in str(column).lower()]
    if not columns:
        return []
    points = [(_number(row.get("step")), _number(row[columns[0]])) for row in rows]
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def read_funnel(file: Path) -> dict[str, list[dict[str, Any]]]:
    """plots/funnel.csv by role: `stage`, `documents` left by it, and their `percent` of the most.

    Raises UserError when a column is missing or a count is no whole number.
    """
    roles: dict[str, list[dict[str, Any]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                step = {"stage": row["stage"], "documents": int(row["documents"])}
                roles.setdefault(row["role"], []).append(step)
    except (KeyError, ValueError, OSError) as error:
        raise UserError(f"{file}: expected the columns stage, role, documents: {error}") from None
    for steps in roles.values():
        most = max(step["documents"] for step in steps) or 1
        for step in steps:
            step["percent"] = round(100 * step["documents"] / most, 2)
    return roles


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
