from typing import Any

import numpy as np
import pytest

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.confident_losses import confident_losses, known_well, lost_confidently
from lmadapt.evaluation.exam import Exam


def item(number: int, group: str = "general", cluster: str = "") -> Any:
    return {
        "id": str(number),
        "group": group,
        "category": "facts",
        "cluster": cluster,
        "prompt": "Which?",
        "choices": ["aa", "bb", "cc"],
        "answer": 0,
        "check": "",
        "severity": "",
    }


def exam(items: list[Any]) -> Exam:
    return Exam(items, [None] * len(items), [], [])


def answers(right: list[bool], margins: list[float]) -> Answers:
    """Answers whose right choice is likelier by `margins` nats per byte than the best wrong one."""
    return Answers(
        log_likelihoods=[[-2.0, -2.0 - 2 * margin, -9.0] for margin in margins],
        responses=[""] * len(right),
        scores=np.array(right, float),
        nats=np.zeros(0),
    )


def test_items_above_the_median_margin_of_those_right_are_known_well() -> None:
    reference = answers([True] * 4 + [False], [0.1, 0.4, 0.2, 0.3, 9.0])
    assert known_well(exam([item(n) for n in range(5)]), reference) == [1, 3]


def test_domain_items_and_items_answered_freely_are_left_out() -> None:
    free = item(2) | {"choices": [], "answer": None}
    reference = answers([True] * 4, [0.4, 0.3, 0.2, 0.1])
    reference.log_likelihoods[2] = []
    assert known_well(exam([item(0, "domain"), item(1), free, item(3)]), reference) == [1]


def test_four_of_718_well_known_items_lost_are_said_with_an_interval() -> None:
    items = [item(n) for n in range(1436)]
    reference = answers([True] * 1436, [n / 1436 for n in range(1436)])
    lost = {0, 1, 2, 800, 900, 1000, 1100}  # the first three were hardly known
    adapted = answers([n not in lost for n in range(1436)], [0.0] * 1436)
    found = confident_losses(exam(items), reference, adapted, 0.05)
    assert found is not None
    assert (found.known, found.lost) == (718, 4)
    assert found.share == pytest.approx(4 / 718)
    assert 0.001 < found.interval[0] < found.share < found.interval[1] < 0.02
    known = lost_confidently(exam(items), reference, adapted)
    assert known == {"800", "900", "1000", "1100"}


def test_losses_of_one_entity_widen_the_interval() -> None:
    alone = [item(n) for n in range(400)]
    together = [item(n, cluster=f"entity {n // 10}") for n in range(400)]
    reference = answers([True] * 400, [n / 400 for n in range(400)])
    adapted = answers([not 200 < n < 220 for n in range(400)], [0.0] * 400)
    widths = []
    for items in (alone, together):
        found = confident_losses(exam(items), reference, adapted, 0.05)
        assert found is not None
        widths.append(found.interval[1] - found.interval[0])
    assert widths[1] > 1.5 * widths[0]


def test_nothing_is_said_of_items_about_a_single_entity() -> None:
    items = [item(n, cluster="one") for n in range(6)]
    reference = answers([True] * 6, [n / 6 for n in range(6)])
    assert confident_losses(exam(items), reference, reference, 0.05) is None
    assert confident_losses(exam([]), answers([], []), answers([], []), 0.05) is None
