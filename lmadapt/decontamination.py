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

Words are those of lmadapt.words: case, punctuation and spacing do not matter.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmadapt.words import Words, split_words

MIN_PROMPT_WORDS = 3
MAX_CLUSTERS = 10

Item = Mapping[str, Any]  # a row of records.ITEM


@dataclass(frozen=True)
class Leak:
    """Text `text` (an index) holds `words`, which item `item` (an index) asks or answers."""

    text: int
    item: int
    words: str


@dataclass(frozen=True)
class _Phrase:
    item: int
    words: str
    alone: bool  # a leak only where it is the whole text


def find_leaks(texts: Words, items: Sequence[Item], *, ngram_words: int, in_corpus: bool) -> list[Leak]:
    """The first leak of each text that has one; `in_corpus` applies the policy for the corpus to domain items."""
    anchors = _anchors(items, ngram_words, in_corpus)
    leaks: dict[int, Leak] = {}
    for size in sorted(anchors):
        phrases = anchors[size]
        hashes, documents = texts.windows(size)
        for place in np.flatnonzero(np.isin(hashes, np.array(sorted(phrases), np.uint64))).tolist():
            text = int(documents[place])
            if text in leaks:
                continue
            phrase = next((p for p in phrases[int(hashes[place])] if _holds(texts.texts[text], p)), None)
            if phrase:
                leaks[text] = Leak(text, phrase.item, phrase.words)
    return [leaks[text] for text in sorted(leaks)]


def _holds(text: str, phrase: _Phrase) -> bool:
    return text == phrase.words if phrase.alone else f" {phrase.words} " in f" {text} "


def _anchors(items: Sequence[Item], ngram_words: int, in_corpus: bool) -> dict[int, dict[int, list[_Phrase]]]:
    """Phrases by the number and the hash of their first words, at most `ngram_words` of them."""
    anchors: dict[int, dict[int, list[_Phrase]]] = defaultdict(lambda: defaultdict(list))
    prompts, answers = split_words([item["prompt"] for item in items]), split_words([correct_answer(i) for i in items])
    whole = [
        (in_corpus and item["group"] == "domain") or count < ngram_words
        for item, count in zip(items, prompts.counts.tolist(), strict=True)
    ]
    for size in sorted({min(count, ngram_words) for count in prompts.counts.tolist() if count}):
        hashes, documents = prompts.windows(size)
        first = np.searchsorted(documents, np.arange(len(items)))
        for item in np.flatnonzero(np.minimum(prompts.counts, ngram_words) == size).tolist():
            if whole[item]:
                phrase = _Phrase(item, prompts.texts[item], bool(prompts.counts[item] < MIN_PROMPT_WORDS))
                anchors[size][int(hashes[first[item]])].append(phrase)
    clusters = [item["cluster"] or item["id"] for item in items]
    open_prompts = {i for i, is_whole in enumerate(whole) if not is_whole}
    open_answers = {i for i, item in enumerate(items) if not (in_corpus and item["group"] == "domain")}
    for hash_, phrases in _runs(((prompts, open_prompts), (answers, open_answers)), ngram_words).items():
        if len({clusters[phrase.item] for phrase in phrases}) <= MAX_CLUSTERS:
            anchors[ngram_words][hash_].append(phrases[0])
    return anchors


def _runs(sources: Sequence[tuple[Words, set[int]]], size: int) -> dict[int, list[_Phrase]]:
    """Every run of `size` words of the wanted texts, by its hash."""
    runs: dict[int, list[_Phrase]] = defaultdict(list)
    for words, wanted in sources:
        hashes, documents = words.windows(size)
        borders = np.searchsorted(documents, np.arange(len(words.texts) + 1)).tolist()
        for item in sorted(wanted):
            tokens = words.texts[item].split(" ")
            for place, hash_ in enumerate(hashes[borders[item] : borders[item + 1]].tolist()):
                runs[hash_].append(_Phrase(item, " ".join(tokens[place : place + size]), alone=False))
    return runs


def correct_answer(item: Item) -> str:
    """The text of the correct choice; "" for items without choices."""
    return str(item["choices"][item["answer"]]) if item["choices"] and item["answer"] is not None else ""
