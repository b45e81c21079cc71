from typing import Any

import pyarrow as pa
import pytest

from lmadapt.curation.quality import FILTERS as PUBLISHED
from lmadapt.curation.quality import conversation_problem, item_problem, text_problems
from lmadapt.curation.word_hashes import split_words
from tests.raw_tables import FILTERS, item, prose

PROSE = "A buffer is read before its length is checked, and that is the problem of it."


def problem(text: str, filters: dict[str, float], **options: bool) -> tuple[str, str] | None:
    column = pa.array([text], pa.large_string())
    return text_problems(column, split_words(column), filters, **options)[0]


@pytest.mark.parametrize(
    ("text", "rule", "evidence"),
    [
        ("too short", "min_words", "words 2 < 3"),
        ("long " * 2001, "max_words", "words 2e+03 > 2000"),
        ("abc 12 34567", "min_alphabetic_fraction", "alphabetic fraction 0.417 < 0.6"),
        ("one\ntwo\none\none", "max_repeated_line_fraction", "repeated line fraction 0.5 > 0.3"),
    ],
)
def test_a_failed_filter_names_its_setting_and_what_was_measured(
    text: str, rule: str, evidence: str
) -> None:
    assert problem(text, FILTERS) == (rule, evidence)


# For every filter: a text that fails it at its published limit, and one that passes.
FAILING = {
    "min_words": "too short",
    "max_words": "word " * 100_001,
    "min_mean_word_characters": "a b c d e f",
    "max_mean_word_characters": "incomprehensibilities antidisestablishmentarianism",
    "max_symbols_per_word": "# one # two # three",
    "min_alphabetic_word_fraction": "one 2 3 4 5",
    "min_stop_words": "buffer overflow attack",
    "max_bullet_line_fraction": "- one\n- two\n* three\n• four",
    "max_ellipsis_line_fraction": "and so on...\nand on…\nend",
    "max_repeated_line_fraction": "one\none\ntwo",
    "max_repeated_line_character_fraction": "one\none\ntwo",
    **{f"max_top_{n}gram_fraction": "the same words again here " * 4 for n in (2, 3, 4)},
    **{
        f"max_repeated_{n}gram_fraction": "the same words come again and again in here every time "
        * 3
        for n in range(5, 11)
    },
    "min_sentences": "One. Two and no more",
    "max_curly_brackets": "if (a) { b }",
    "max_lorem_ipsum": "Lorem ipsum dolor sit amet",
    "min_punctuated_line_fraction": "\n".join(["a menu entry"] * 20),
    "max_short_line_fraction": "one\ntwo\nthree",
    "max_lines_per_word": "one\ntwo\nthree",
    "min_alphabetic_fraction": "12345 67890 a",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_filter_works_alone_at_its_published_limit(
    name: str,
) -> None:
    found = problem(FAILING[name], {name: PUBLISHED[name]})
    assert found is not None
    assert found[0] == name
    assert problem(FAILING[name], {}) is None
    long_prose = " ".join([PROSE, *(f"Then {prose(n, 9)}" for n in range(9))])
    assert problem(long_prose, {name: PUBLISHED[name]}) is None


def test_digits_count_as_letters_on_request() -> None:
    assert problem("What is 123 * 456? 56088", FILTERS) is not None
    assert problem("What is 123 * 456? 56088", FILTERS, count_digits=True) is None


def test_combining_marks_are_part_of_letters() -> None:
    assert problem("नमस्ते दुनिया", {"min_alphabetic_fraction": 1.0}) is None


def test_repeated_braces_and_blank_lines_do_not_count() -> None:
    assert problem("if a {\n}\n\nif b {\n}\n\n}", {"max_repeated_line_fraction": 0.0}) is None


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
def test_a_conversation_that_cannot_be_trained_on_is_named(
    turns: list[tuple[str, str | None]], rule: str
) -> None:
    found = conversation_problem(messages(*turns))
    assert found is not None
    assert found[0] == rule


def test_a_short_answer_and_several_turns_are_fine() -> None:
    assert (
        conversation_problem(messages(("user", "Capital of France?"), ("assistant", "Paris")))
        is None
    )
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert conversation_problem(messages(*turns)) is None


BEHAVIOUR = {"group": "behaviour", "choices": [], "answer": None, "severity": "major"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"group": "other"}, "group 'other'; allowed: domain"),
        ({"choices": ["one"]}, "1 choices"),
        ({"choices": ["one", ""]}, "choice 1 is empty"),
        ({"choices": ["one", "one"]}, "the same"),
        ({"answer": 2}, "answer 2"),
        ({"answer": None}, "answer None"),
        (BEHAVIOUR | {"check": "no json"}, "Invalid JSON"),
        (BEHAVIOUR | {"check": '{"kind": "taste"}'}, "'taste'"),
        (BEHAVIOUR | {"check": '{"kind": "regex"}'}, "pattern: Field required"),
        (
            BEHAVIOUR | {"check": '{"kind": "number", "value": 4}', "severity": "bad"},
            "severity 'bad'; allowed: critical",
        ),
        (
            BEHAVIOUR | {"check": '{"kind": "regex", "pattern": "("}'},
            "pattern: Value error, no regular expression",
        ),
        (
            BEHAVIOUR | {"check": '{"kind": "regex", "pattern": 5}'},
            "pattern: Input should be a valid string",
        ),
        (
            BEHAVIOUR | {"check": '{"kind": "number", "value": "four"}'},
            "value: Input should be a valid number",
        ),
        (
            BEHAVIOUR | {"check": '{"kind": "number", "value": NaN}'},
            "value: Input should be a finite number",
        ),
        (
            BEHAVIOUR | {"check": '{"kind": "sentence", "min_words": 2.5, "contains": "a"}'},
            "valid integer",
        ),
        (
            BEHAVIOUR | {"check": '{"kind": "sentence", "min_words": 2, "contains": 3}'},
            "valid string",
        ),
        (
            BEHAVIOUR | {"check": '{"kind": "json_keys", "keys": "name"}'},
            "keys: Input should be a valid",
        ),
        (
            BEHAVIOUR | {"check": '{"kind": "json_keys", "keys": [1]}'},
            "keys.0: Input should be a valid string",
        ),
    ],
)
def test_a_broken_item_is_explained(change: dict[str, Any], words: str) -> None:
    assert words in item_problem(item("i", "What is it?", "this") | change)


def test_sound_items_pass() -> None:
    assert item_problem(item("i", "What is it?", "this")) == ""
    assert (
        item_problem(
            item("i", "2 + 2?", "") | BEHAVIOUR | {"check": '{"kind": "number", "value": 4}'}
        )
        == ""
    )
    label = '{"kind": "label", "value": "a", "labels": ["a", "b"]}'
    assert (
        item_problem(item("i", "a or b?", "") | {"choices": [], "answer": None, "check": label})
        == ""
    )
    pair = {"group": "fairness", "choices": ["he is", "she is"], "answer": None}
    assert item_problem(item("i", "Say it.", "") | pair) == ""
    assert "a pair" in item_problem(
        item("i", "Say it.", "") | pair | {"choices": ["he", "she", "they"]}
    )
    assert item_problem(item("i", "Symbol of cobalt?", "Co") | {"choices": ["CO", "Co"]}) == ""
