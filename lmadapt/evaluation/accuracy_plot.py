"""The table of plots/accuracy.csv, which DVC draws as bars."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmadapt.core.files import atomic_file
from lmadapt.verdict.figures import Accuracy, EvaluationFigures, Group
from lmadapt.verdict.judged import MODELS

COLUMNS = ["bar", "model", "category", "group", "accuracy", "low", "high"]


def write_accuracy(figures: EvaluationFigures, target: Path) -> None:
    """Write a row for each model and category, and one for each model and group.

    The row of a whole group has the category `all`.
    """
    with (
        atomic_file(target) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_rows(figures))


def _rows(figures: EvaluationFigures) -> Iterator[dict[str, Any]]:
    for name, model in figures.models.items():
        yield from _group_rows(name, "domain", model.domain, model.categories.domain)
        yield from _group_rows(name, "general", model.general, model.categories.general)


def _group_rows(
    model: str, group: Group, whole: Accuracy, categories: dict[str, Accuracy]
) -> Iterator[dict[str, Any]]:
    for category, accuracy in {"all": whole, **categories}.items():
        low, high = accuracy.interval
        yield {
            # DVC draws bars in alphabetical order; the number keeps the models in order.
            "bar": f"{group} {category} {MODELS.index(model)} {model}",
            "model": model,
            "category": category,
            "group": group,
            "accuracy": accuracy.accuracy,
            "low": low,
            "high": high,
        }
