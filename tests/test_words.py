import numpy as np

from lmadapt.words import fold, split_words


def test_case_width_ligatures_and_sharp_s_do_not_matter_for_comparison() -> None:
    assert fold("  The\u00a0\ufb01le \uff21\n STRASSE") == fold("the file a straße")


def test_words_are_letters_and_digits_without_punctuation() -> None:
    words = split_words(["Don't stop: re-use HTTP/2!", "", "..."])
    assert words.texts == ["don t stop re use http 2", "", ""]
    assert words.counts.tolist() == [7, 0, 0]


def test_characters_of_scripts_without_spaces_are_words() -> None:
    assert split_words(["漢字かな mixed ไทย"]).texts == ["漢 字 か な mixed ไ ท ย"]


def test_operators_between_numbers_tell_questions_apart() -> None:
    texts = split_words(["12 + 7", "12 - 7", "12*7", "12 / 7", "CWE-79 - a note"]).texts
    assert texts[:4] == ["12 plus 7", "12 minus 7", "12 times 7", "12 over 7"]
    assert len(set(texts)) == 5


def test_windows_agree_with_slices_and_stay_inside_documents() -> None:
    words = split_words(["a b c d", "", "b c", "x a b c"])
    hashes, documents = words.windows(3)
    assert documents.tolist() == [0, 0, 3, 3]
    assert hashes[0] == hashes[3]  # "a b c"
    assert len(set(hashes.tolist())) == 3
    assert [len(words.windows(size)[0]) for size in (1, 2, 4, 5, 99)] == [10, 7, 2, 0, 0]


def test_hashes_do_not_depend_on_what_stands_before() -> None:
    alone, behind = split_words(["p q r"]), split_words(["some words first", "p q r"])
    assert alone.windows(3)[0][0] == behind.windows(3)[0][1]
    assert np.array_equal(alone.hashes, behind.hashes[3:])
