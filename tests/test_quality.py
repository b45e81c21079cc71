from typing import Any

import pytest

from lmadapt.quality import (
    alphabetic_fraction,
    conversation_problem,
    item_problem,
    repeated_line_fraction,
    text_problem,
)
from tests.raw_tables import FILTERS, item


@pytest.mark.parametrize(
    ("text", "words", "rule", "evidence"),
    [
        ("too short", 2, "min_words", "2 words < 3"),
        ("long", 2001, "max_words", "2001 words > 2000"),
        ("abc 1234567", 3, "min_alphabetic_fraction", "alphabetic fraction 0.36 < 0.6"),
        ("one\ntwo\none\none", 4, "max_repeated_line_fraction", "repeated lines 0.50 > 0.3"),
    ],
)
def test_a_failed_filter_names_its_setting_and_what_was_measured(
    text: str, words: int, rule: str, evidence: str
) -> None:
    assert text_problem(text, words, **FILTERS) == (rule, evidence)


def test_prose_passes_every_filter() -> None:
    assert text_problem("A buffer is read before its length is checked.", 9, **FILTERS) is None


def test_digits_count_where_asked() -> None:
    assert alphabetic_fraction("12 ab") == pytest.approx(0.6)
    assert alphabetic_fraction("12 ab", count_digits=True) == 1.0
    assert text_problem("What is 123 * 456? 56088", 6, count_digits=True, **FILTERS) is None


def test_combining_marks_are_part_of_letters() -> None:
    assert alphabetic_fraction("नमस्ते दुनिया") == 1.0


def test_braces_and_blank_lines_are_no_repetition() -> None:
    assert repeated_line_fraction("if a {\n}\n\nif b {\n}\n\n}") == 0.0


def messages(*turns: tuple[str, str | None]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize(
    ("turns", "rule"),
    [
        ([], "role_order"),
        ([("user", "a")], "role_order"),
        ([("assistant", "b"), ("user", "a")], "role_order"),
        ([("user", "a"), ("system", "s"), ("assistant", "b")], "role_order"),
        ([("user", "a"), ("assistant", " ")], "empty_completion"),
        ([("user", "a"), ("assistant", None)], "empty_completion"),
        ([("user", ""), ("assistant", "b")], "empty_question"),
    ],
)
def test_a_conversation_that_cannot_be_trained_on_is_named(turns: list[tuple[str, str | None]], rule: str) -> None:
    problem = conversation_problem(messages(*turns))
    assert problem is not None
    assert problem[0] == rule


def test_a_short_answer_and_several_turns_are_fine() -> None:
    assert conversation_problem(messages(("user", "Capital of France?"), ("assistant", "Paris"))) is None
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert conversation_problem(messages(*turns)) is None


BEHAVIOUR = {"group": "behaviour", "choices": [], "answer": None, "severity": "major"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"group": "other"}, "group 'other'"),
        ({"choices": ["one"]}, "1 choices"),
        ({"choices": ["one", ""]}, "choice 1 is empty"),
        ({"choices": ["one", "one"]}, "the same"),
        ({"answer": 2}, "answer 2"),
        ({"answer": None}, "answer None"),
        (BEHAVIOUR | {"check": "no json"}, "not JSON"),
        (BEHAVIOUR | {"check": '{"kind": "taste"}'}, "kind 'taste'"),
        (BEHAVIOUR | {"check": '{"kind": "regex"}'}, "expected ['pattern']"),
        (BEHAVIOUR | {"check": '{"kind": "number", "value": 4}', "severity": "bad"}, "severity 'bad'"),
        (BEHAVIOUR | {"check": '{"kind": "regex", "pattern": "("}'}, "'(', which is no regular expression: missing )"),
        (BEHAVIOUR | {"check": '{"kind": "regex", "pattern": 5}'}, "5, which is no text"),
        (BEHAVIOUR | {"check": '{"kind": "number", "value": "four"}'}, "'four', which is no number"),
        (BEHAVIOUR | {"check": '{"kind": "number", "value": NaN}'}, "nan, which is no number"),
        (BEHAVIOUR | {"check": '{"kind": "sentence", "min_words": 2.5, "contains": "a"}'}, "2.5, which is no whole"),
        (BEHAVIOUR | {"check": '{"kind": "sentence", "min_words": 2, "contains": 3}'}, "3, which is no text"),
        (BEHAVIOUR | {"check": '{"kind": "json_keys", "keys": "name"}'}, "'name', which are no list of texts"),
        (BEHAVIOUR | {"check": '{"kind": "json_keys", "keys": [1]}'}, "[1], which are no list of texts"),
    ],
)
def test_a_broken_item_is_explained(change: dict[str, Any], words: str) -> None:
    assert words in item_problem(item("i", "What is it?", "this") | change)


def test_sound_items_pass() -> None:
    assert item_problem(item("i", "What is it?", "this")) == ""
    assert item_problem(item("i", "2 + 2?", "") | BEHAVIOUR | {"check": '{"kind": "number", "value": 4}'}) == ""
    assert item_problem(item("i", "Symbol of cobalt?", "Co") | {"choices": ["CO", "Co"]}) == ""
