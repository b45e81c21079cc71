from typing import Any

import numpy as np
import pytest

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.calibration import (
    CalibrationError,
    brier_scores,
    calibration_figures,
)
from lmadapt.evaluation.exam import Exam

N = 400
SIZE = 4  # bytes of a choice


def exam(right: np.ndarray, group: str = "general") -> Exam:
    items: list[Any] = [
        {
            "id": str(number),
            "group": group,
            "category": "facts",
            "cluster": "",
            "prompt": "Which?",
            "choices": ["aaaa", "bbbb", "cccc", "dddd"],
            "answer": int(answer),
            "check": "",
            "severity": "",
        }
        for number, answer in enumerate(right)
    ]
    return Exam(items, [None] * len(items), [], [])


def answers(logits: np.ndarray) -> Answers:
    """Answers whose log-likelihoods per byte are `logits`, (n, 4)."""
    count = len(logits)
    return Answers((logits * SIZE).tolist(), [""] * count, np.zeros(count), np.zeros(0))


def draw(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 4), and right choices drawn from their softmax."""
    random = np.random.default_rng(seed)
    logits = 1.5 * random.normal(size=(n, 4))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return logits, (chances.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)


def test_the_error_is_the_mean_distance_between_confidence_and_share_right() -> None:
    sure = [np.array([0.8, 0.2])] * 500 + [np.array([0.6, 0.4])] * 500
    right = np.array([0, 0, 0, 0, 1] * 100 + [0, 0, 1, 1, 1] * 100)  # 80 % and 40 % right
    found = CalibrationError(np.arange(1000)).of(sure, right)
    assert found == pytest.approx(0.1, abs=0.03)  # half of the items are off by 0.2
    certain = [np.array([1.0, 0.0])] * 100
    assert CalibrationError(np.arange(100)).of(certain, np.zeros(100, int)) == 0


def test_chance_alone_is_no_error_of_a_model_that_is_calibrated() -> None:
    errors = []
    for seed in range(12):
        logits, right = draw(300, seed)
        errors.append(CalibrationError(np.arange(300)).of(softmax(logits), right))
    plain = 0.4 / np.sqrt(50)  # about what |noise| of a bin of 50 is
    assert abs(np.mean(errors)) < plain / 3


def test_the_brier_score_is_the_squared_distance_over_all_choices() -> None:
    found = brier_scores([np.array([0.7, 0.2, 0.1]), np.array([0.0, 1.0])], np.array([0, 0]))
    assert found.tolist() == pytest.approx([0.09 + 0.04 + 0.01, 2.0])


def test_the_temperature_is_that_at_which_the_reference_is_calibrated() -> None:
    logits, right = draw(2000)
    models = {"base": answers(logits * 0.3), "adapted": answers(logits * 0.3)}
    found = calibration_figures(exam(right), models, "base", 0.05)
    assert found is not None
    assert found.temperature == pytest.approx(0.3, rel=0.1)
    general = found.groups["general"]
    assert general.models["base"].ece < 0.04
    assert (general.ece_change.difference, general.brier_change.interval) == (0, (0, 0))


def test_a_model_that_is_too_sure_is_shown_to_be_worse_calibrated() -> None:
    logits, right = draw()
    models = {"base": answers(logits), "adapted": answers(logits * 4)}
    found = calibration_figures(exam(right), models, "base", 0.05)
    assert found is not None
    general = found.groups["general"]
    assert general.models["adapted"].ece > general.models["base"].ece + 0.1
    assert 0 < general.ece_change.interval[0] < general.ece_change.difference
    assert general.brier_change.interval[0] > 0


def test_the_interval_holds_the_true_change_from_a_calibrated_reference() -> None:
    def change(n: int, seed: int) -> Any:
        logits, right = draw(n, seed)
        error = CalibrationError(np.arange(n))
        return error.change(softmax(logits), softmax(logits * 1.5), right, 0.05)

    true = change(20_000, 1).difference
    intervals = [change(300, seed).interval for seed in range(2, 22)]
    assert sum(low <= true <= high for low, high in intervals) >= 17
    assert np.mean([high - low for low, high in intervals]) < 0.3


def softmax(logits: np.ndarray) -> list[np.ndarray]:
    return list(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def test_groups_with_few_items_or_one_entity_are_left_out() -> None:
    logits, right = draw(99)
    models = {"base": answers(logits), "adapted": answers(logits)}
    assert calibration_figures(exam(right), models, "base", 0.05) is None
    logits, right = draw(100)
    alone = exam(right)
    for item in alone.items:
        item["cluster"] = "one"
    models = {"base": answers(logits), "adapted": answers(logits)}
    assert calibration_figures(alone, models, "base", 0.05) is None
    enough = calibration_figures(exam(right, "domain"), models, "base", 0.05)
    assert enough is not None
    assert list(enough.groups) == ["domain"]
