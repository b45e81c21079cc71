"""Leaks: training text that gives away an evaluation item.

Policy. The prompt of every item is looked for, and so are its right answers: the correct choice,
the values of an `exact` or `contains_all` check, or the references of a graded check:

- of a text of at least `ngram_words` words (13: Brown et al. 2020, appendix C), any shared run of
  that many words is a leak;
- a shorter prompt is a leak where it appears whole; below MIN_PROMPT_WORDS words only where it is
  the whole text or message, since "How are you" can stand anywhere;
- a shorter answer alone is no leak: "Paris" in a text gives nothing away.

The corpus is *meant* to hold the facts that domain items ask about. So in the corpus only the
whole prompt of a domain item counts, not a run of the description it quotes. Instructions and
general text must keep every rule. A run of words found in items about more than MAX_CLUSTERS
different things is a template or boilerplate and proves nothing; NeMo Curator and the Pile's
tools set the same limit of 10 on the documents that share a run. Where the items name fewer
things, a run that items about more than half of them (and about 3) share is a template, too. A
text with the whole of such a prompt still is a leak: it has runs with the prompt's own words.

Words are those of lmadapt.curation.word_hashes: case, punctuation and spacing do not matter.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lmadapt.curation.kernels.decontamination import in_sorted, write_run_hashes
from lmadapt.curation.kernels.hashing import GOLDEN
from lmadapt.curation.word_hashes import Words, normal_form, split_words

MIN_PROMPT_WORDS = 4
MAX_CLUSTERS = 10
# Kinds of check that hold right answers, and the key that holds them.
WITH_ANSWERS = {
    "exact": "value",
    "contains_all": "values",
    "rouge_l": "references",
    "chrf": "references",
    "bleu": "references",
}

Item = dict[str, Any]  # a row of lmadapt.core.tables.ITEM


@dataclass(frozen=True)
class Leak:
    """Text `text` (an index) holds `words` of a part of the item with the id `item`."""

    text: int
    item: str
    part: str  # question | answer
    words: str


@dataclass(frozen=True)
class _Phrase:
    item: int
    part: int  # an index into the parts that are looked for
    start: int  # in the words of the part
    hashes: np.ndarray  # of its words
    alone: bool  # a leak only where it is the whole text


class _Part(NamedTuple):
    """One text of each item that is looked for; "" for an item that has none."""

    name: str  # question | answer
    texts: list[str]


class LeakFinder:
    """What gives each item away, ready to be looked for in any number of texts."""

    def __init__(self, items: Sequence[Item], *, ngram_words: int, in_corpus: bool) -> None:
        """With `in_corpus`, domain items follow the policy for the corpus."""
        self._parts = _parts(items)
        self._ids = [item["id"] for item in items]
        self._phrases = _phrases_by_anchor(items, self._parts, ngram_words, in_corpus)
        self._anchors = np.array(sorted(self._phrases), np.uint64)
        sizes: set[int] = set()
        for found in self._phrases.values():
            sizes |= {min(len(phrase.hashes), ngram_words) for phrase in found}
        self._sizes = sorted(sizes)

    def find(self, texts: Words) -> list[Leak]:
        """The leaks in the texts, in their order; each part of an item once a text."""
        found: dict[tuple[int, int, str], _Phrase] = {}
        for size in self._sizes:
            hashes = run_hashes(texts, size)
            for place in np.flatnonzero(in_sorted(hashes, self._anchors)).tolist():
                text = int(np.searchsorted(texts.offsets, place, side="right")) - 1
                for phrase in self._phrases[int(hashes[place])]:
                    if _holds(texts.of(text), place - int(texts.offsets[text]), phrase):
                        part = self._parts[phrase.part].name
                        found.setdefault((text, phrase.item, part), phrase)
        return [
            Leak(text, self._ids[item], part, self._words(found[text, item, part]))
            for text, item, part in sorted(found)
        ]

    def _words(self, phrase: _Phrase) -> str:
        words = normal_form(self._parts[phrase.part].texts[phrase.item]).split()
        return " ".join(words[phrase.start : phrase.start + len(phrase.hashes)])


def _holds(text: np.ndarray, place: int, phrase: _Phrase) -> bool:
    same = np.array_equal(text[place : place + len(phrase.hashes)], phrase.hashes)
    return same and (not phrase.alone or len(text) == len(phrase.hashes))


def _phrases_by_anchor(
    items: Sequence[Item], parts: Sequence[_Part], ngram_words: int, in_corpus: bool
) -> dict[int, list[_Phrase]]:
    """Phrases by their anchor: the hash of their first words, at most `ngram_words` of them."""
    phrases: dict[int, list[_Phrase]] = defaultdict(list)
    runs: dict[int, list[_Phrase]] = defaultdict(list)
    for part, (name, texts) in enumerate(parts):
        words = split_words(texts)
        anchors = {size: run_hashes(words, size) for size in range(1, ngram_words + 1)}
        for number, item in enumerate(items):
            start, own = int(words.offsets[number]), words.of(number)
            lenient = in_corpus and item["group"] == "domain"
            if name == "question" and len(own) and (lenient or len(own) < ngram_words):
                alone = len(own) < MIN_PROMPT_WORDS
                anchor = int(anchors[min(len(own), ngram_words)][start])
                phrases[anchor].append(_Phrase(number, part, 0, own, alone))
            elif not lenient:
                for run in _runs(number, part, own, ngram_words):
                    runs[int(anchors[ngram_words][start + run.start])].append(run)
    most_named = _most_named(items)
    for anchor, found in runs.items():
        sharing = [items[run.item] for run in found]
        clusters = {item["cluster"] or item["id"] for item in sharing}
        named = {item["cluster"] for item in sharing} - {""}
        if len(clusters) <= MAX_CLUSTERS and len(named) <= most_named:
            phrases[anchor] += found
    return dict(phrases)


def _most_named(items: Sequence[Item]) -> int:
    """About how many named things the items that share a run may be; beyond, it is a template."""
    named = {item["cluster"] for item in items} - {""}
    return min(MAX_CLUSTERS, max(2, len(named) // 2))


def _runs(item: int, part: int, words: np.ndarray, size: int) -> Iterator[_Phrase]:
    for place in range(len(words) - size + 1):
        yield _Phrase(item, part, place, words[place : place + size], alone=False)


def run_hashes(words: Words, size: int) -> np.ndarray:
    """Hash of the `size` words from each word on, shape of words.hashes.

    It is 0 where a run would leave its text. Hashes are rolled from word to word (Karp and Rabin
    1987), so that the cost does not depend on `size`.
    """
    hashes = np.zeros(len(words.hashes), np.uint64)
    top = np.uint64(pow(int(GOLDEN), size, 2**64))
    write_run_hashes(words.hashes, words.offsets, size, top, hashes)
    return hashes


def _parts(items: Sequence[Item]) -> list[_Part]:
    """The prompts of the items, their first right answers, their second ones, and so on."""
    answers = [right_answers(item) for item in items]
    parts = [_Part("question", [item["prompt"] or "" for item in items])]
    for place in range(max(map(len, answers), default=0)):
        parts.append(_Part("answer", ["".join(own[place : place + 1]) for own in answers]))
    return parts


def right_answers(item: Item) -> list[str]:
    """The correct choice; of a free item, the values or references of its check."""
    if item["choices"] and item["answer"] is not None:
        return [str(item["choices"][item["answer"]])]
    if not item.get("check"):
        return []
    check = json.loads(item["check"])
    if check["kind"] not in WITH_ANSWERS:
        return []
    told = check[WITH_ANSWERS[check["kind"]]]
    return [str(one) for one in (told if isinstance(told, list) else [told])]
