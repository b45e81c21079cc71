"""Clusters of items that name no entity."""

import logging

import pytest

from lmadapt.evaluation.clusters import joined_clusters
from lmadapt.evaluation.lm_eval_tasks import TaskAnswer, _task_answer

QUESTION = "Which of these rivers flows through the city of {} before it meets the northern sea?"
IDS = ["a", "b", "c", "d"]
TEXTS = [
    QUESTION.format("Hamburg") + "\nElbe\nRhine",
    "How many moons of Jupiter were seen by Galileo Galilei in the year 1610?\nfour\ntwo",
    QUESTION.format("Hamburg").upper() + "\nElbe\nRhine",
    "Who wrote the play about the prince of Denmark?\nShakespeare\nMarlowe",
]


def test_near_duplicates_without_an_entity_share_a_cluster() -> None:
    assert joined_clusters(IDS, [""] * 4, TEXTS) == ["like a", "", "like a", ""]


def test_an_item_that_names_an_entity_keeps_it() -> None:
    assert joined_clusters(IDS, ["Elbe", "", "", ""], TEXTS) == ["Elbe", "", "", ""]


def test_items_without_an_entity_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        joined_clusters(IDS, ["", "x", "", ""], TEXTS)
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("3 of 4 items name no entity")
    assert "except 1 near-duplicates" in message


def test_items_that_all_name_an_entity_are_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert joined_clusters(IDS, list("wxyz"), TEXTS) == list("wxyz")
    assert joined_clusters([], [], []) == []
    assert not caplog.records


def answer(document: dict[str, object], number: int = 0) -> TaskAnswer:
    sample = {
        "doc": document,
        "doc_id": number,
        "arguments": [("solved example\n\nthe question", " yes")],
        "target": "yes",
        "filtered_resps": "yes",
        "acc": 1.0,
    }
    return _task_answer("boolq", sample)


def test_task_items_about_one_passage_have_one_cluster() -> None:
    first, second, other = (
        answer({"passage": passage, "question": question})["passage"]
        for passage, question in (("p", "is it?"), ("p", "was it?"), ("q", "is it?"))
    )
    assert first == second != other
    assert first


def test_a_task_item_without_a_passage_has_its_own_strings_as_text() -> None:
    found = answer({"question": "is it?", "choices": {"text": ["yes", "no"]}, "label": 1})
    assert (found["passage"], found["text"]) == ("", "is it? yes no")
