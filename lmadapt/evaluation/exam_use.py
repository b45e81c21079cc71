"""How an exam is used: which of its items are asked, and at what level they judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmadapt.evaluation.exam import ABILITIES
from lmadapt.evaluation.exam_identity import exam_sha256
from lmadapt.evaluation.lm_eval_tasks import task_key
from lmadapt.evaluation.sealed_items import Rows, split_sealed
from lmadapt.verdict.exam_figures import ExamFigures
from lmadapt.verdict.looks import Looks, verdict_level


@dataclass(frozen=True, kw_only=True)
class ExamSettings:
    """The settings that say how often an exam is used; params.yaml describes each."""

    significance: float
    candidates: int = 1
    looks: Looks = 1
    planned_items: int | None = None
    sealed_fraction: float = 0.0
    lm_eval_tasks: Sequence[str] = ()


def open_exam(
    items: Sequence[Mapping[str, Any]], settings: ExamSettings
) -> tuple[Rows, ExamFigures]:
    """The items to ask, rows of the table ITEM, and what metrics/evaluate.json says of the exam.

    The hash is of all items, sealed ones included. Raises UserError as `split_sealed` does.
    """
    opened, sealed = split_sealed(items, settings.sealed_fraction)
    count = sum(item["group"] in ABILITIES for item in opened)
    level = verdict_level(
        settings.significance,
        candidates=settings.candidates,
        looks=settings.looks,
        items=count,
        planned_items=settings.planned_items,
    )
    return opened, ExamFigures(
        sha256=exam_sha256(items, [task_key(task) for task in settings.lm_eval_tasks]),
        level=level,
        candidates=settings.candidates,
        looks=settings.looks,
        planned_items=settings.planned_items,
        items=max(1, count),
        sealed_items=len(sealed),
    )
