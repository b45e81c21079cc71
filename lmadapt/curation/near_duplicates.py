"""Near-duplicates: MinHash bands propose pairs, the exact Jaccard similarity of shingles decides.

Only hashes are held: 4 bytes a band of each text in memory, and 4 bytes a word in a temporary
file, from which the shingles of a proposed pair are read again.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from lmadapt.curation.kernels.near_duplicates import jaccards, proposed, write_band_keys
from lmadapt.curation.word_hashes import Words

# 14 bands of 8 as in FineWeb (Penedo et al. 2024); a band is a hash of 8 minima (Broder 1997).
BANDS, MINIMA_A_BAND = 14, 8
MINIMA = BANDS * MINIMA_A_BAND
# The same 112 minima are banded twice, in two orders: 99 % of the pairs of similarity 0.80 are
# proposed, instead of 92 %.
KEYS = 2 * BANDS

_draw = np.random.default_rng(1)  # decides which pairs are proposed, never whether they match
_FACTORS = _draw.integers(2**31, size=MINIMA, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
_SUMMANDS = _draw.integers(2**32, size=MINIMA, dtype=np.uint32)
_ORDER = np.concatenate([np.arange(MINIMA), _draw.permutation(MINIMA)])


@dataclass(frozen=True)
class Match:
    """A text that is a near-duplicate of a kept one: two indices, and their Jaccard similarity."""

    document: int
    kept: int
    jaccard: float


class WordStore:
    """The words of all texts so far: 32-bit hashes in a temporary file, offsets in memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the store
        self._offsets = [np.zeros(1, np.int64)]
        self.texts = 0

    def append(self, words: Words) -> None:
        """Add the words of further texts."""
        self._file.write(words.hashes.data)
        self._offsets.append(self._offsets[-1][-1] + words.offsets[1:])
        self.texts += len(words.offsets) - 1

    def read(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The words of some texts, one after the other, and their offsets, (len(texts) + 1,)."""
        if len(self._offsets) > 1:
            self._offsets = [np.concatenate(self._offsets)]
        starts, ends = self._offsets[0][texts], self._offsets[0][texts + 1]
        offsets = np.concatenate([[0], np.cumsum(ends - starts)])
        words = np.empty(offsets[-1], np.uint32)
        file, target, bounds = self._file.fileno(), words.data, offsets.tolist()
        # The file is not mapped into memory: the kernel would map 64 KiB around each text,
        # and count all of it as memory of this process.
        for place, start, end in zip((4 * starts).tolist(), bounds[:-1], bounds[1:], strict=True):
            os.preadv(file, [target[start:end]], place)
        return words, offsets

    def jaccards(self, text: int, others: np.ndarray, at_least: float = 0.0) -> np.ndarray:
        """Jaccard similarity of the shingles of `text` and of each of `others`, (len(others),).

        It may be 0 for a similarity below `at_least`, because reading stops early there.
        """
        words, offsets = self.read(np.concatenate([[text], others]))
        return np.asarray(jaccards(words, offsets, at_least))


def band_keys(words: Words) -> np.ndarray:
    """Band keys of each text, shape (n, KEYS), uint32; the row of a text without words is 0.

    Two texts that have the same key in one column are proposed as a pair.
    """
    keys = np.zeros((len(words.offsets) - 1, KEYS), np.uint32)
    write_band_keys(words.hashes, words.offsets, _FACTORS, _SUMMANDS, _ORDER, keys)
    return keys


def near_duplicates(
    keys: np.ndarray,
    texts: np.ndarray,
    store: WordStore,
    min_jaccard: float,
    *,
    keepers: int | None = None,
    similarity: Callable[[Match], float] = attrgetter("jaccard"),
) -> Iterator[Match]:
    """Yield a Match for each text at least `min_jaccard` similar to an earlier text that is kept.

    keys: band keys of the texts, best text first, shape (n, KEYS); texts: their places in
    `store`, shape (n,). The indices of a Match are those of this order. A text is dropped for
    the first kept text it is similar to, so that clusters cannot chain. With `keepers`, only the
    first `keepers` texts drop others. `similarity` may lower that of a pair, which then stays.
    """
    shared = _shared_keys(keys)
    dropped = np.zeros(len(keys), np.bool_)
    for document in np.flatnonzero(np.diff(shared.bounds)).tolist():
        if keepers is not None and document >= keepers:
            return
        if dropped[document]:
            continue
        groups = shared.groups_of(document)
        found = proposed(document, groups, shared.members, shared.group_bounds, dropped)
        if keepers is not None:
            found = found[found >= keepers]
        if not len(found):
            continue
        similarities = store.jaccards(int(texts[document]), texts[found], min_jaccard)
        for other, jaccard in zip(found.tolist(), similarities.tolist(), strict=True):
            match = Match(other, document, jaccard)
            if jaccard >= min_jaccard and similarity(match) >= min_jaccard:
                dropped[other] = True
                yield match


@dataclass(frozen=True)
class _SharedKeys:
    """Groups of texts that share a key.

    The groups of text i are groups[bounds[i] : bounds[i + 1]]. The texts of group g are
    members[group_bounds[g] : group_bounds[g + 1]], in ascending order.
    """

    groups: np.ndarray
    bounds: np.ndarray
    members: np.ndarray
    group_bounds: np.ndarray

    def groups_of(self, text: int) -> np.ndarray:
        return self.groups[self.bounds[text] : self.bounds[text + 1]]


def _shared_keys(keys: np.ndarray) -> _SharedKeys:
    filled = np.flatnonzero(keys.any(axis=1))
    members, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for column in range(keys.shape[1] if len(filled) else 0):
        column_keys = keys[filled, column]
        order = np.argsort(column_keys, kind="stable")
        ranked = column_keys[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        lengths = np.diff(np.append(starts, len(ranked)))
        shared = np.repeat(lengths > 1, lengths)
        members.append(filled[order[shared]])
        sizes.append(lengths[lengths > 1])
    member = np.concatenate(members)
    group_bounds = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    group = np.repeat(np.arange(len(group_bounds) - 1), np.diff(group_bounds))
    bounds = np.concatenate([[0], np.cumsum(np.bincount(member, minlength=len(keys)))])
    return _SharedKeys(group[np.argsort(member, kind="stable")], bounds, member, group_bounds)
