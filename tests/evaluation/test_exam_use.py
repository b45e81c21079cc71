"""Which items an evaluation asks, and at what level they judge."""

from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.evaluation.exam_use import ExamSettings, open_exam
from lmadapt.evaluation.sealed_items import split_sealed


def items(entities: int, each: int = 2, *, clusters: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{group}/{entity}/{number}",
            "group": group,
            "category": f"of {group}",
            "cluster": f"entity {entity}" if clusters else "",
            "prompt": f"Question {number} about {group} {entity}?",
            "choices": ["yes", "no"],
            "answer": 0,
            "check": "",
        }
        for group in ("domain", "general", "behaviour")
        for entity in range(entities)
        for number in range(each)
    ]


def test_entities_are_sealed_whole_and_behaviour_never() -> None:
    opened, sealed = split_sealed(items(200), 0.3)
    assert len(opened) + len(sealed) == 1200
    scored = {item["cluster"] for item in opened if item["group"] != "behaviour"}
    closed = {item["cluster"] for item in sealed}
    assert not scored & closed
    assert 0.2 < len(closed) / 200 < 0.4
    assert {item["group"] for item in sealed} == {"domain", "general"}


def test_an_item_stays_on_its_side_when_others_are_added_and_ids_change() -> None:
    few, many = (
        {item["prompt"] for item in split_sealed(asked, 0.3)[1]}
        for asked in (items(150), [item | {"id": "new"} for item in items(300)])
    )
    assert few < many
    assert few == {prompt for prompt in many if prompt in {i["prompt"] for i in items(150)}}


def test_items_without_an_entity_are_drawn_one_by_one() -> None:
    _, sealed = split_sealed(items(300, clusters=False), 0.5)
    pairs = {(item["group"], item["id"].split("/")[1]) for item in sealed}
    assert len(sealed) > len(pairs) > len(sealed) / 2  # some pairs are split


def test_a_fraction_that_leaves_a_category_too_few_items_is_refused() -> None:
    with pytest.raises(UserError, match=r"sealed_fraction: 0.3 leaves \d+ \w+ items of categ"):
        split_sealed(items(30, each=1), 0.3)
    assert split_sealed(items(30, each=1), 0.0)[1] == []


def test_the_exam_is_all_of_its_items_and_the_level_is_for_those_that_are_open() -> None:
    asked = items(200)
    plain, use = open_exam(asked, ExamSettings(significance=0.05))
    opened, sealed_use = open_exam(
        asked,
        ExamSettings(significance=0.05, candidates=5, sealed_fraction=0.3),
    )
    assert plain == asked
    assert (use.level, use.items, use.sealed_items) == (0.05, 800, 0)
    assert sealed_use.sha256 == use.sha256
    assert sealed_use.items + sealed_use.sealed_items == 800
    assert len(opened) == sealed_use.items + 400
    assert sealed_use.level == pytest.approx(0.01)


def test_the_share_of_planned_items_decides_which_look_it_is() -> None:
    levels = [
        open_exam(items(entities), ExamSettings(significance=0.05, looks=2, planned_items=800))[
            1
        ].level
        for entities in (100, 200)
    ]
    assert levels == pytest.approx([0.0056, 0.0482], abs=0.0002)


def test_the_evidence_says_what_changed_the_level_and_what_was_left_out() -> None:
    settings = ExamSettings(significance=0.05, candidates=5, looks="any", sealed_fraction=0.3)
    _, use = open_exam(items(200), settings)
    assert use.in_words() == [
        "5 candidates divide the level (evaluate.candidates)",
        "intervals and tests hold at any look (evaluate.looks: any)",
        "each test has the level 0.01",
        f"{use.sealed_items:,} sealed items are asked by `lmadapt promote` alone",
    ]
    planned = ExamSettings(significance=0.05, looks=2, planned_items=1600)
    assert open_exam(items(200), planned)[1].in_words()[0] == (
        "one of 2 planned looks, with up to 1,600 items"
    )
    assert open_exam(items(200), ExamSettings(significance=0.05))[1].in_words() == []
