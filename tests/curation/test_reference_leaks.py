import json
from typing import Any

import pytest

from lmadapt.curation.decontamination import LeakFinder, right_answers
from lmadapt.curation.word_hashes import split_words

REFERENCE = (
    "The outage began when the nightly job filled the disk of the build host and ended after the "
    "operators had moved its logs to another volume."
)


def free_item(**check: Any) -> dict[str, Any]:
    return {
        "id": "i",
        "prompt": "Summarise the outage of March.",
        "choices": [],
        "answer": None,
        "check": json.dumps(check),
        "group": "general",
        "cluster": "",
    }


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "exact", "value": REFERENCE},
        {"kind": "exact", "value": [6, REFERENCE]},
        {"kind": "contains_all", "values": ["disk", REFERENCE]},
        {"kind": "rouge_l", "references": ["x", REFERENCE]},
        {"kind": "chrf", "references": [REFERENCE]},
        {"kind": "bleu", "references": [REFERENCE]},
    ],
)
def test_a_text_that_holds_a_right_answer_of_a_free_item_is_a_leak(check: dict[str, Any]) -> None:
    finder = LeakFinder([free_item(**check)], ngram_words=13, in_corpus=False)
    (leak,) = finder.find(split_words([f"In spring: {REFERENCE.upper()}", "disk x 6"]))
    assert (leak.text, leak.item, leak.part) == (0, "i", "answer")
    assert leak.words.startswith("the outage began when the nightly job")


def test_checks_that_hold_no_answer_are_not_looked_for() -> None:
    assert right_answers(free_item(kind="regex", pattern="a")) == []
    assert right_answers(free_item(kind="number", value=1)) == []
