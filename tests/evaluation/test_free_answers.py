import json
from typing import Any

import numpy as np
import pytest

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.free_answers import classification_figures, generation_figures


def exam_of(checks: list[tuple[str, dict[str, Any]]]) -> Exam:
    items = [
        {
            "id": str(number),
            "group": "domain",
            "category": category,
            "check": json.dumps(check),
            "choices": [],
        }
        for number, (category, check) in enumerate(checks)
    ]
    return Exam(items, [None] * len(items), [], [])


def answers_of(said: list[str]) -> dict[str, Answers]:
    return {"base": Answers([[]] * len(said), said, np.zeros(len(said)), np.zeros(0))}


def label(value: str) -> tuple[str, dict[str, Any]]:
    return "mail", {"kind": "label", "value": value, "labels": ["spam", "ham"]}


def test_a_classifier_gets_the_figures_computed_by_hand() -> None:
    truth = ["spam", "spam", "spam", "ham", "ham"]
    said = ["spam", "Spam!", "ham", "ham", "who knows"]
    exam = exam_of([label(value) for value in truth])
    found = classification_figures(exam, answers_of(said))["mail"]["base"]
    assert found.labels == ["ham", "spam"]
    assert found.precision == [1 / 2, 1.0]
    assert found.recall == pytest.approx([1 / 2, 2 / 3])
    assert found.f1 == pytest.approx([1 / 2, 4 / 5])
    assert found.macro_f1 == pytest.approx(0.65)
    assert found.confusion == [[1, 0, 1], [1, 2, 0]]


def test_a_generator_is_compared_with_its_references() -> None:
    text = "the cat sat on the mat today"
    exam = exam_of([("summaries", {"kind": "rouge_l", "references": [text]})] * 2)
    same = generation_figures(exam, answers_of([text] * 2))["summaries"]["base"]
    assert (same.rouge_l, same.bleu, same.chrf) == pytest.approx((1.0, 1.0, 1.0))
    worse = generation_figures(exam, answers_of(["a dog"] * 2))["summaries"]["base"]
    assert max(worse.rouge_l, worse.bleu, worse.chrf) < 0.3
    assert classification_figures(exam, answers_of([text] * 2)) == {}


def test_other_checks_have_no_figures() -> None:
    exam = exam_of([("sums", {"kind": "number", "value": 4})])
    assert classification_figures(exam, answers_of(["4"])) == {}
    assert generation_figures(exam, answers_of(["4"])) == {}
