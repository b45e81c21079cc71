"""The table of reports/predictions.parquet: what every model answered to every item."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lmadapt.core.tables import write_table
from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.changes import graded_of
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.exam_identity import item_sha256

PREDICTION = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("category", pa.string()),
        ("cluster", pa.string()),
        # Of what the item asks and accepts (exam_identity.item_sha256); versions are paired by it.
        ("content_sha256", pa.string()),
        ("model", pa.string()),  # reference | base | pretrained | adapted
        # Nats, one a choice; empty where the model answers freely.
        ("log_likelihoods", pa.list_(pa.float64())),
        ("response", pa.string()),  # the choice it prefers, or what it said
        # From 0 to 1; null for pairs of the fairness probe, where no choice is right.
        ("score", pa.float64()),
        # From 0 to 1, the probability of the right choice at `temperature`; of a free answer its
        # score. Both are null when right and wrong answers decide.
        ("graded", pa.float64()),
        ("temperature", pa.float64()),  # nats a byte
    ]
)


def write_predictions(
    exam: Exam, answers: Mapping[str, Answers], target: Path, temperature: float | None
) -> None:
    """Write the answers of each model to each item, model after model, in the order of the exam.

    Graded scores are at the `temperature` of the exam; None when they are not used.
    """
    write_table(_rows(exam, answers, temperature), PREDICTION, target)


def _rows(
    exam: Exam, answers: Mapping[str, Answers], temperature: float | None
) -> Iterator[dict[str, Any]]:
    contents = [item_sha256(item) for item in exam.items]
    for name, model in answers.items():
        graded = None if temperature is None else graded_of(exam, model, temperature)
        for place, item in enumerate(exam.items):
            score = float(model.scores[place])
            yield {
                "id": item["id"],
                "group": item["group"],
                "category": item["category"],
                "cluster": item["cluster"],
                "content_sha256": contents[place],
                "model": name,
                "log_likelihoods": model.log_likelihoods[place],
                "response": model.responses[place],
                "score": None if np.isnan(score) else score,
                "graded": _known(graded, place),
                "temperature": temperature,
            }


def _known(graded: np.ndarray | None, place: int) -> float | None:
    return None if graded is None or np.isnan(graded[place]) else float(graded[place])
