import json
from typing import Any

import numpy as np
import pytest

from lmadapt.evaluation.exam import Answers, Exam
from lmadapt.evaluation.free_answers import free_form_figures


def exam_of(checks: list[tuple[str, dict[str, Any]]]) -> Exam:
    items = [
        {
            "id": str(n),
            "group": "domain",
            "category": category,
            "check": json.dumps(check),
            "choices": [],
        }
        for n, (category, check) in enumerate(checks)
    ]
    return Exam(items, [None] * len(items), [], [])


def answers_of(said: list[str]) -> dict[str, Answers]:
    return {"base": Answers([[]] * len(said), said, np.zeros(len(said)), np.zeros(0))}


def label(value: str) -> tuple[str, dict[str, Any]]:
    return "mail", {"kind": "label", "value": value, "labels": ["spam", "ham"]}


def test_a_classifier_is_counted_by_hand() -> None:
    truth, said = (
        ["spam", "spam", "spam", "ham", "ham"],
        ["spam", "Spam!", "ham", "ham", "who knows"],
    )
    exam = exam_of([label(value) for value in truth])
    found = free_form_figures(exam, answers_of(said))["classification"]["mail"]["base"]
    assert found["labels"] == ["ham", "spam"]
    assert found["precision"] == [1 / 2, 1.0]
    assert found["recall"] == pytest.approx([1 / 2, 2 / 3])
    assert found["f1"] == pytest.approx([1 / 2, 4 / 5])
    assert found["macro_f1"] == pytest.approx(0.65)
    assert found["confusion"] == [[1, 0, 1], [1, 2, 0]]


def test_a_generator_is_compared_with_its_references() -> None:
    check = ("summaries", {"kind": "rouge_l", "references": ["the cat sat on the mat today"]})
    figures = free_form_figures(
        exam_of([check, check]), answers_of(["the cat sat on the mat today"] * 2)
    )
    assert figures["generation"]["summaries"]["base"] == pytest.approx(
        {"rouge_l": 1.0, "bleu": 1.0, "chrf": 1.0}
    )
    assert figures["classification"] == {}
    worse = free_form_figures(exam_of([check]), answers_of(["a dog"]))["generation"]["summaries"][
        "base"
    ]
    assert max(worse.values()) < 0.3


def test_other_checks_need_no_table() -> None:
    exam = exam_of([("sums", {"kind": "number", "value": 4})])
    assert free_form_figures(exam, answers_of(["4"])) == {"classification": {}, "generation": {}}
