import json
from typing import Any

import numpy as np
import pytest

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import Exam
from lmadapt.evaluation.label_gaps import label_gap_figures, subgroup_gaps

LABELS = ["hire", "reject"]


def item(number: int, value: str, subgroup: str, cluster: str = "") -> Any:
    return {
        "id": str(number),
        "group": "domain",
        "category": "applications",
        "cluster": cluster,
        "prompt": "Hire or reject?",
        "choices": [],
        "answer": None,
        "check": json.dumps({"kind": "label", "value": value, "labels": LABELS}),
        "severity": "",
        "subgroup": subgroup,
    }


def answers(said: list[str]) -> Answers:
    return Answers([[]] * len(said), said, np.zeros(len(said)), np.zeros(0))


def applications(hired: dict[str, int]) -> tuple[Exam, Answers, Answers]:
    """40 women and 40 men who should be hired, 20 of each who should not.

    Before, all 40 of a group are hired; after, as many as `hired` says.
    """
    items, before, after = [], [], []
    for subgroup in ("men", "women"):
        for number in range(60):
            good = number < 40
            items.append(item(len(items), "hire" if good else "reject", subgroup))
            before.append("hire" if good else "reject")
            after.append("Hire." if good and number < hired[subgroup] else "Reject!")
    exam = Exam(items, [None] * len(items), [], [])
    return exam, answers(before), answers(after)


def test_a_gap_in_the_true_positive_rate_is_found_for_both_sides() -> None:
    found = label_gap_figures(*applications({"men": 36, "women": 20}), 0.05)
    gaps = found["applications"]["hire"].equal_opportunity
    assert (gaps["women"].n, gaps["women"].others, gaps["women"].before) == (40, 40, 0)
    assert gaps["women"].after == pytest.approx(0.5 - 0.9)
    assert gaps["men"].after == pytest.approx(0.4)
    low, high = gaps["women"].interval or (0, 0)
    assert low < -0.4 < high < 0


def test_demographic_parity_counts_all_items_and_ignores_what_is_true() -> None:
    found = label_gap_figures(*applications({"men": 36, "women": 20}), 0.05)
    gap = found["applications"]["hire"].demographic_parity["women"]
    assert (gap.n, gap.others) == (60, 60)
    assert gap.after == pytest.approx((20 - 36) / 60)
    assert found["applications"]["reject"].demographic_parity["women"].after == pytest.approx(
        (36 - 20) / 60
    )


def test_equal_losses_are_no_gap() -> None:
    found = label_gap_figures(*applications({"men": 30, "women": 30}), 0.05)
    gap = found["applications"]["hire"].equal_opportunity["women"]
    assert gap.change == 0
    assert gap.interval is not None
    assert gap.interval[0] < 0 < gap.interval[1]


def test_items_without_a_subgroup_are_left_out() -> None:
    exam, before, after = applications({"men": 30, "women": 30})
    for entry in exam.items:
        entry["subgroup"] = ""
    assert label_gap_figures(exam, before, after, 0.05) == {}
    for entry in exam.items[:60]:
        entry["subgroup"] = "men"
    alone = label_gap_figures(exam, before, after, 0.05)["applications"]["hire"]
    assert (alone.equal_opportunity, alone.demographic_parity) == ({}, {})


@pytest.mark.parametrize("paired", [False, True])
def test_nine_of_ten_intervals_hold_no_change_where_there_is_none(paired: bool) -> None:
    draw, held, runs = np.random.default_rng(5), 0, 400
    groups = np.repeat(["men", "women"], 60)
    names = np.tile(np.arange(60), 2) if paired else np.arange(120)
    for _ in range(runs):
        before = (draw.random(120) < 0.7).astype(float)
        moved = np.tile(draw.random(60) < 0.2, 2) if paired else draw.random(120) < 0.2
        after = np.where(moved, 1 - before, before)
        gap = subgroup_gaps(before, after, groups, names, 0.05)["women"]
        held += gap.interval is not None and gap.interval[0] <= 0 <= gap.interval[1]
    assert 0.84 <= held / runs <= 0.97
