from itertools import chain

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmadapt.curation.word_hashes import digests, fold, normal_form, split_words, word_hash


def test_case_width_ligatures_and_sharp_s_do_not_matter_for_comparison() -> None:
    assert fold("  The\u00a0\ufb01le \uff21\n STRASSE") == fold("the file a straße")


def test_words_are_letters_and_digits_without_punctuation() -> None:
    texts = ["Don't stop: re-use HTTP/2!", "", "..."]
    assert [normal_form(text) for text in texts] == ["don t stop re use http 2", "", ""]
    assert split_words(texts).counts.tolist() == [7, 0, 0]


def test_characters_of_scripts_without_spaces_are_words() -> None:
    assert normal_form("漢字かな mixed ไทย") == "漢 字 か な mixed ไ ท ย"
    assert split_words(["漢字かな mixed ไทย"]).counts.tolist() == [8]


def test_operators_between_numbers_tell_questions_apart() -> None:
    texts = ["12 + 7", "12 - 7", "12*7", "12 / 7", "12 (x) \u2212 7"]
    assert [normal_form(text) for text in texts] == [
        "12 plus 7",
        "12 minus 7",
        "12 times 7",
        "12 over 7",
        "12 x 7",
    ]
    assert len({tuple(split_words([text]).hashes) for text in texts}) == 5


PLANE = st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs", "Cn", "Co", "Cc"))
TEXT = st.text(st.one_of(PLANE, st.sampled_from("0123456789 ()+-*/^<>\n\tabcABC")), max_size=60)


@settings(deadline=None, max_examples=300)
@given(TEXT)
def test_split_words_hashes_the_words_of_the_normal_form(text: str) -> None:
    assert split_words([text]).hashes.tolist() == [
        word_hash(word) for word in normal_form(text).split()
    ]


@settings(deadline=None, max_examples=200)
@given(TEXT)
def test_a_second_folding_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert normal_form(normal_form(text)) == normal_form(text)


@settings(deadline=None, max_examples=200)
@given(st.lists(TEXT, max_size=5))
def test_texts_do_not_depend_on_their_neighbours(texts: list[str]) -> None:
    together = split_words(texts)
    assert [together.of(n).tolist() for n in range(len(texts))] == [
        split_words([t]).hashes.tolist() for t in texts
    ]


# Some of these become one character, or change places.
MARKS = "e\u0301\u0323\u0307\u1100\u1161\uac00\u11a8\uff76\uff9e"
OTHERS = "\ufb01\u00c5\u212b\u00bd\u2026\u00e9\u6f22 aI\U0001d400\U0001f600"


@settings(deadline=None, max_examples=300)
@example(["\u1100\u1161", "\uac00\u11a8 e", "\u0301"])
@given(st.lists(st.text(st.sampled_from(MARKS + OTHERS), max_size=12), max_size=4))
def test_characters_that_combine_do_so_in_any_context(texts: list[str]) -> None:
    words = [[word_hash(word) for word in normal_form(text).split()] for text in texts]
    assert [split_words(texts).of(n).tolist() for n in range(len(texts))] == words
    column = pa.array(["漢字 É", *texts], pa.large_string())
    assert split_words(column.slice(1)).hashes.tolist() == list(chain(*words))


def test_a_word_may_be_longer_than_a_block() -> None:
    for length in range(1020, 1030):
        for text in (
            "a" * length + " b",
            "é" * length + "1+2",
            "a " * length + "b",
            "1+" * length,
            "漢" * length,
        ):
            assert split_words([text]).hashes.tolist() == [
                word_hash(word) for word in normal_form(text).split()
            ]


def test_the_digest_ignores_case_and_spacing_and_nothing_else() -> None:
    texts = [
        "One  straße,\ntwo",
        "ONE STRASSE, TWO",
        "one two",
        "onetwo",
        "one, two",
        "one two.",
        "",
    ]
    column = pa.array(texts, pa.large_string())
    found = digests(column, split_words(column))
    assert found[0] == found[1]
    assert len(set(found)) == 6
    assert digests(column.slice(1, 3), split_words(column.slice(1, 3))) == found[1:4]
