import pytest

from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.word_hashes import digests, fold, normal_form, split_words, text_column
from tests.raw_tables import item

QUESTION = (
    "The product does not neutralize user input before it is placed in output that is used as a "
    "web page: which weakness is it?"
)
INVISIBLE = ["\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u034f", "\U000e0041"]


@pytest.mark.parametrize("character", INVISIBLE)
def test_characters_that_show_nothing_do_not_part_words(character: str) -> None:
    hidden = QUESTION.replace("u", f"u{character}").replace("o", f"{character}o")
    assert fold(hidden) == fold(QUESTION)
    assert normal_form(hidden) == normal_form(QUESTION)
    column = text_column([QUESTION, hidden])
    words = split_words(column)
    assert words.of(0).tolist() == words.of(1).tolist()
    assert len(set(digests(column, words))) == 1


def test_a_leak_behind_soft_hyphens_is_found() -> None:
    finder = LeakFinder([item("i", QUESTION, "XSS")], ngram_words=13, in_corpus=False)
    hidden = QUESTION.replace("u", "u\u00ad")
    assert [leak.item for leak in finder.find(split_words([hidden]))] == ["i"]


def test_an_accent_behind_an_invisible_character_joins_its_letter() -> None:
    assert fold("cafe\u00ad\u0301") == "caf\u00e9"
    assert (
        split_words(["cafe\u00ad\u0301"]).hashes.tolist() == split_words(["café"]).hashes.tolist()
    )
