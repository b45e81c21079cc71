"""Templates, greetings and boilerplate that items share, beside texts that give items away."""

from typing import Any

import pytest

from lmadapt.curation.decontamination import LeakFinder
from lmadapt.curation.word_hashes import split_words
from tests.raw_tables import item, prose

TEMPLATE = (
    "Classify the following support ticket into exactly one of the categories billing, delivery, "
    "returns or other. Ticket:"
)
HARMLESS = [
    f"{TEMPLATE} I was charged twice for one lamp",
    f"{TEMPLATE} parcel",
    "How are you today? I am fine, thank you, and I hope that you are well, too.",
    "You are a helpful assistant. Answer in one word and do not explain what you say.",
]


def items(entities: int, count: int = 40) -> list[dict[str, Any]]:
    """Items with one template, about so many entities."""
    return [
        item(f"i{n}", f"{TEMPLATE} {prose(n, 8)}", "delivery", cluster=f"shop {n % entities}")
        for n in range(count)
    ]


def leaks(asked: list[dict[str, Any]], texts: list[str]) -> set[int]:
    finder = LeakFinder(asked, ngram_words=13, in_corpus=False)
    return {leak.text for leak in finder.find(split_words(texts))}


@pytest.mark.parametrize("entities", [3, 4, 10, 11, 40])
def test_a_template_of_few_entities_is_no_leak_and_every_whole_prompt_is(entities: int) -> None:
    asked = items(entities)
    planted = [f"Once: {one['prompt']} And so on." for one in asked]
    found = leaks(asked, [*planted, *HARMLESS])
    assert found == set(range(len(planted)))  # recall and precision are 1


def test_a_description_that_two_of_the_things_share_still_is_a_leak() -> None:
    shared = prose(500, 20)
    asked = [*items(10), *(item(f"d{n}", f"{shared} {n}?", "x", cluster=f"x{n}") for n in (1, 2))]
    assert leaks(asked, [f"He said: {shared}"]) == {0}


def test_items_that_name_nothing_keep_the_limit_of_ten_items() -> None:
    shared = prose(500, 20)
    few = [item(f"d{n}", f"{shared} {n}?", "x") for n in range(10)]
    assert leaks(few, [shared]) == {0}
    assert leaks([*few, item("d10", f"{shared} 10?", "x")], [shared]) == set()
