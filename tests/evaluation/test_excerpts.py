"""The held-out text that is scored: beginnings of many documents."""

from collections.abc import Sequence
from typing import Any

from lmadapt.evaluation.excerpts import DOCUMENTS, beginning, draw_excerpts


def words(text: str, **_: Any) -> dict[str, list[int]]:
    """A tokenizer whose tokens are words."""
    return {"input_ids": [len(word) for word in text.split()]}


def characters(text: str, **_: Any) -> dict[str, list[int]]:
    """A tokenizer whose tokens are characters."""
    return {"input_ids": list(range(len(text)))}


def documents(lengths: Sequence[int], group: str = "general") -> list[dict[str, Any]]:
    return [
        {"id": f"{group}/{n}", "group": group, "entity": "", "text": "word " * length}
        for n, length in enumerate(lengths)
    ]


def drawn(rows: list[dict[str, Any]], tokens: int, seed: int = 0) -> list[int]:
    """How many words each drawn document keeps."""
    return [len(row["text"].split()) for row in draw_excerpts(rows, words, tokens, seed)]


def test_thirty_long_documents_give_an_equal_share_each() -> None:
    assert drawn(documents([5000] * 50), 1200) == [1200 // DOCUMENTS] * DOCUMENTS


def test_a_giant_document_has_no_more_than_its_share() -> None:
    kept = drawn(documents([100_000, *[40] * 29]), 1200)
    assert (len(kept), max(kept)) == (30, 40)


def test_fewer_documents_share_all_tokens() -> None:
    assert drawn(documents([5000] * 4), 1200) == [300] * 4


def test_short_documents_are_taken_whole_until_the_tokens_are_used() -> None:
    assert drawn(documents([10] * 500), 1200) == [10] * 120


def test_each_group_has_tokens_of_its_own() -> None:
    rows = documents([100] * 40) + documents([100] * 2, group="domain")
    found = list(draw_excerpts(rows, words, 600, 0))
    assert [row["group"] for row in found].count("general") == 30
    assert [len(row["text"].split()) for row in found if row["group"] == "domain"] == [100, 100]


def test_the_seed_draws_the_documents_and_their_order_in_the_table_does_not() -> None:
    rows = documents([50] * 200)
    first, other = ([row["id"] for row in draw_excerpts(rows, words, 600, n)] for n in (0, 1))
    assert first != other
    assert [row["id"] for row in draw_excerpts(rows[::-1], words, 600, 0)] == first


def test_a_document_is_cut_after_a_word() -> None:
    assert beginning("one three fifteen", characters, 12) == ("one three", 9)


def test_a_text_without_spaces_is_cut_between_characters() -> None:
    assert beginning("東京都は日本の首都", characters, 4) == ("東京都は", 4)


def test_a_short_text_is_kept_as_it_is() -> None:
    assert beginning("two  words \n", words, 5) == ("two  words \n", 2)


def test_empty_documents_and_no_tokens_give_nothing() -> None:
    assert drawn(documents([0, 0]), 100) == []
    assert drawn(documents([5, 5]), 0) == []
