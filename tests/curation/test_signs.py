"""Short texts whose words are equal, and whose signs are not."""

import pytest

from lmadapt.curation.signs import find_signs, signs_of, with_signs
from lmadapt.curation.word_hashes import text_column
from tests.raw_tables import curate_records, decision, instruction, raw_records

ASKED = "What does the expression a {} b return in JavaScript when a is false, and why is it so?"
REVIEW = "Label the review: the hotel was what we expected when we booked it last year {}"
PAIRS = [
    (ASKED.format("&&"), ASKED.format("||")),
    (ASKED.format("=="), ASKED.format("!=")),
    (ASKED.format("<"), ASKED.format(">=")),
    (REVIEW.format("\U0001f600"), REVIEW.format("\U0001f621")),
    (REVIEW.format("for $90"), REVIEW.format("for \u20ac90")),
    (REVIEW.format("at -5 degrees"), REVIEW.format("at 5 degrees")),
]
SAME = [
    (REVIEW.format("\u2014 really"), REVIEW.format("- really")),
    ("- " + REVIEW.format("**now**"), "\u2022 " + REVIEW.format("now")),
    (REVIEW.format("\u201cgood\u201d"), REVIEW.format("'good'!")),
    (REVIEW.format("in Acme\u2122"), REVIEW.format("in ACME")),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_sign_makes_short_texts_differ_as_a_word_would(one: str, other: str) -> None:
    assert signs_of(one) != signs_of(other)
    assert with_signs(1.0, 20, signs_of(one), signs_of(other)) < 0.8


def test_the_fast_search_finds_every_text_with_a_sign() -> None:
    signs = "&|!=<>~^%\\+*/-#$\u20ac\u2212\u00d7\u2264\U0001f600\u00b0"
    texts = [f"{left}{sign}{right}" for sign in signs for left in "a 1)" for right in "a 1(="]
    found = find_signs(text_column(texts))
    assert [found.get(number, "") for number in range(len(texts))] == list(map(signs_of, texts))


@pytest.mark.parametrize(("one", "other"), SAME)
def test_punctuation_and_marks_of_formatting_make_no_difference(one: str, other: str) -> None:
    assert signs_of(one) == signs_of(other)


def test_in_a_longer_text_one_sign_changes_little() -> None:
    assert 0.8 < with_signs(1.0, 64, "&& ", "|| ") < 1.0
    assert with_signs(0.9, 10, "&& ", "&& ") == 0.9


def test_curation_keeps_texts_that_differ_by_a_sign_and_drops_those_that_differ_by_a_dash() -> None:
    records = raw_records()
    answer = "It returns one of the two operands, and JavaScript decides from left to right."
    for number, text in enumerate([*PAIRS[0], *SAME[0]]):
        records["instructions"].append(instruction(f"chat/sign {number}", text, answer))
    curated = curate_records(records, heldout_fraction=0.0)
    rules = [decision(curated, f"chat/sign {number}")["rule"] for number in range(4)]
    assert rules[:2] == ["", ""]
    assert sorted(rules[2:]) == ["", "near_duplicate"]
