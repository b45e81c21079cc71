"""Leaks: training text that gives away an evaluation item.

Policy. For every item two texts are looked for, its prompt and its correct answer, apart:

- of at least `ngram_words` words (13: Brown et al. 2020, appendix C): any shared run of that many words is a leak;
- a shorter prompt is a leak where it appears whole; of fewer than MIN_PROMPT_WORDS words, only where it is the whole
  text or message, since "How are you" can stand anywhere;
- a shorter answer alone is none: "Paris" in a text gives nothing away.

The corpus is *meant* to hold the facts that domain items ask about, so against the corpus only the whole prompt of a
domain item counts, not a run of the description it quotes. Instructions and general text are held to every rule.
A run of words found in items about more than MAX_CLUSTERS different things is a template or boilerplate and proves
nothing; NeMo Curator and the Pile's tools set the same limit of 10 on the documents that share one.

Words are those of lmadapt.curation.word_hashes: case, punctuation and spacing do not matter.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from lmadapt.curation.word_hashes import Words, mix, normal_form, split_words

MIN_PROMPT_WORDS = 3
MAX_CLUSTERS = 10
BASE = np.uint64(0x9E3779B97F4A7C15)  # of the rolling hash; odd, thus invertible modulo 2**64

Item = Mapping[str, Any]  # a row of records.ITEM


@dataclass(frozen=True)
class Leak:
    """Text `text` (an index) holds `words` of the `part` (question or answer) of the item with the id `item`."""

    text: int
    item: str
    part: str
    words: str


@dataclass(frozen=True)
class _Phrase:
    item: int
    part: str
    start: int  # in the words of the part
    hashes: np.ndarray  # of its words
    alone: bool  # a leak only where it is the whole text


class LeakFinder:
    """What gives an item away, ready to be looked for in any number of texts."""

    def __init__(self, items: Sequence[Item], *, ngram_words: int, in_corpus: bool) -> None:
        """With `in_corpus` the policy for the corpus applies to domain items."""
        self._parts = {
            "question": [item["prompt"] or "" for item in items],
            "answer": [correct_answer(item) for item in items],
        }
        self._ids = [item["id"] for item in items]
        self._phrases = _phrases(items, self._parts, ngram_words, in_corpus)
        self._anchors = np.array(sorted(self._phrases), np.uint64)
        self._sizes = sorted(
            {min(len(p.hashes), ngram_words) for found in self._phrases.values() for p in found}
        )

    def find(self, texts: Words) -> list[Leak]:
        """The leaks of the texts, in their order, each part of an item once a text."""
        found: dict[tuple[int, int, str], _Phrase] = {}
        for size in self._sizes:
            hashes = run_hashes(texts, size)
            for place in np.flatnonzero(_in_sorted(hashes, self._anchors)).tolist():
                text = int(np.searchsorted(texts.offsets, place, side="right")) - 1
                for phrase in self._phrases[int(hashes[place])]:
                    if _holds(texts.of(text), place - int(texts.offsets[text]), phrase):
                        found.setdefault((text, phrase.item, phrase.part), phrase)
        return [
            Leak(text, self._ids[item], part, self._words(found[text, item, part]))
            for text, item, part in sorted(found)
        ]

    def _words(self, phrase: _Phrase) -> str:
        words = normal_form(self._parts[phrase.part][phrase.item]).split()
        return " ".join(words[phrase.start : phrase.start + len(phrase.hashes)])


def _holds(text: np.ndarray, place: int, phrase: _Phrase) -> bool:
    same = np.array_equal(text[place : place + len(phrase.hashes)], phrase.hashes)
    return same and (not phrase.alone or len(text) == len(phrase.hashes))


def _phrases(
    items: Sequence[Item], parts: Mapping[str, Sequence[str]], ngram_words: int, in_corpus: bool
) -> dict[int, list[_Phrase]]:
    """Phrases by the hash of their first words, at most `ngram_words` of them."""
    phrases: dict[int, list[_Phrase]] = defaultdict(list)
    runs: dict[int, list[_Phrase]] = defaultdict(list)
    for part, texts in parts.items():
        words = split_words(texts)
        first = {size: run_hashes(words, size) for size in range(1, ngram_words + 1)}
        for number, item in enumerate(items):
            count, own = int(words.counts[number]), words.of(number)
            lenient = in_corpus and item["group"] == "domain"
            start = int(words.offsets[number])
            if part == "question" and count and (lenient or count < ngram_words):
                phrase = _Phrase(number, part, 0, own, alone=count < MIN_PROMPT_WORDS)
                phrases[int(first[min(count, ngram_words)][start])].append(phrase)
            elif not lenient:
                for place in range(count - ngram_words + 1):
                    run = _Phrase(
                        number, part, place, own[place : place + ngram_words], alone=False
                    )
                    runs[int(first[ngram_words][start + place])].append(run)
    for anchor, found in runs.items():
        if (
            len({items[run.item]["cluster"] or items[run.item]["id"] for run in found})
            <= MAX_CLUSTERS
        ):
            phrases[anchor] += found
    return dict(phrases)


def run_hashes(words: Words, size: int) -> np.ndarray:
    """Hash of the `size` words from each word on, shape of words.hashes; 0 where a run would leave its text.

    Rolled from place to place (Karp and Rabin 1987), so that the cost does not depend on `size`.
    """
    hashes = np.zeros(len(words.hashes), np.uint64)
    _roll(words.hashes, words.offsets, size, np.uint64(pow(int(BASE), size, 2**64)), hashes)
    return hashes


@numba.njit(nogil=True, cache=True)
def _roll(words, offsets, size, top, hashes):
    for text in range(len(offsets) - 1):
        value, start = np.uint64(0), offsets[text]
        for place in range(start, offsets[text + 1]):
            value = value * BASE + np.uint64(words[place])
            if place >= start + size:
                value -= top * np.uint64(words[place - size])
            if place >= start + size - 1:
                hashes[place - size + 1] = max(mix(value + np.uint64(size)), np.uint64(1))


@numba.njit(nogil=True, cache=True)
def _in_sorted(values, wanted):
    """Which values are among `wanted` (sorted): a table of their upper bits rules nearly all of them out at once."""
    table, found = np.zeros(2**20, np.bool_), np.zeros(len(values), np.bool_)
    for value in wanted:
        table[value >> np.uint64(44)] = True
    for place, value in enumerate(values):
        if table[value >> np.uint64(44)]:
            nearest = np.searchsorted(wanted, value)
            found[place] = nearest < len(wanted) and wanted[nearest] == value
    return found


def correct_answer(item: Item) -> str:
    """The text of the correct choice; "" for items without choices."""
    return (
        str(item["choices"][item["answer"]])
        if item["choices"] and item["answer"] is not None
        else ""
    )
