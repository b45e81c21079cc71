"""How hard a text is to guess word by word: its mean surprisal under word frequencies."""

from collections.abc import Iterator

import numpy as np

from lmadapt.curation.near_duplicates import WordStore

BUCKET_BITS = 20  # of a word's hash, by which words are counted: 8 MB, whatever the corpus
BATCH_TEXTS = 1000


def mean_surprisals(store: WordStore, background: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Mean of -log2 p over the words of each text, in bits a word, shape (len(texts),).

    p is the share of a word in the texts `background` (places in the store), with one added to
    each count (Laplace). Rare words make a text hard to learn and to read (unigram surprisal;
    Shannon 1951). A text without words gets 0.
    """
    counts = np.ones(2**BUCKET_BITS)
    for buckets, _ in _buckets(store, background):
        counts += np.bincount(buckets, minlength=len(counts))
    bits = -np.log2(counts / counts.sum())
    found = [np.empty(0)]
    for buckets, offsets in _buckets(store, texts):
        sums = np.concatenate([[0.0], np.cumsum(bits[buckets])])[offsets]
        found.append(np.diff(sums) / np.maximum(1, np.diff(offsets)))
    return np.concatenate(found)


def _buckets(store: WordStore, texts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The buckets of the words of a batch of texts, and the offset of each text in them."""
    for start in range(0, len(texts), BATCH_TEXTS):
        words, offsets = store.read(texts[start : start + BATCH_TEXTS])
        yield words >> np.uint32(32 - BUCKET_BITS), offsets
