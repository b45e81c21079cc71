"""Near-duplicates: MinHash bands propose pairs, the exact Jaccard similarity of word shingles decides.

Only hashes are held: 4 bytes a band of each text in memory, 4 bytes a word in a temporary file, from which the
shingles of a proposed pair are read again.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np

from lmadapt.curation.word_hashes import Words, mix

SHINGLE_WORDS = 5
AT_ONCE = 128  # shingles hashed before one of them is looked at
BANDS, ROWS = (
    14,
    8,
)  # 14 x 8 as in FineWeb (Penedo et al. 2024); each band is a hash of 8 minima (Broder 1997)
# The same 112 minima are banded twice, in two orders: 99 % of pairs of similarity 0.80 are proposed instead of 92 %.
KEYS = 2 * BANDS

_draw = np.random.default_rng(1)  # it never changes a decision that the exact check did not confirm
_FACTORS = _draw.integers(2**31, size=BANDS * ROWS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
_SUMMANDS = _draw.integers(2**32, size=BANDS * ROWS, dtype=np.uint32)
_ORDER = np.concatenate([np.arange(BANDS * ROWS), _draw.permutation(BANDS * ROWS)])


@dataclass(frozen=True)
class Match:
    """A text that is a near-duplicate of one that is kept: indices, and their exact Jaccard similarity."""

    document: int
    kept: int
    jaccard: float


class WordStore:
    """The words of all texts so far, as 32-bit hashes in a temporary file; memory holds only where each begins."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the store is
        self._offsets = [np.zeros(1, np.int64)]
        self.texts = 0

    def append(self, words: Words) -> None:
        """Add the words of further texts."""
        self._file.write(words.hashes.data)
        self._offsets.append(self._offsets[-1][-1] + words.offsets[1:])
        self.texts += len(words.offsets) - 1

    def read(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The words of some texts, one after the other, and the offset of each, shape (len(texts) + 1,)."""
        if len(self._offsets) > 1:
            self._offsets = [np.concatenate(self._offsets)]
        starts, ends = self._offsets[0][texts], self._offsets[0][texts + 1]
        # Not mapped into memory: the kernel maps 64 KiB around each text, and all of it counts as this process's.
        offsets = np.concatenate([[0], np.cumsum(ends - starts)])
        words = np.empty(offsets[-1], np.uint32)
        file, into, places, bounds = (
            self._file.fileno(),
            words.data,
            (4 * starts).tolist(),
            offsets.tolist(),
        )
        for place, begin, end in zip(places, bounds[:-1], bounds[1:], strict=True):
            os.preadv(file, [into[begin:end]], place)
        return words, offsets

    def jaccards(self, text: int, others: np.ndarray, at_least: float = 0.0) -> np.ndarray:
        """Jaccard similarity of the shingles of `text` and of each of `others`, shape (len(others),).

        It is 0 where looking at an other whole was not needed to know that it is below `at_least`.
        """
        return np.asarray(_jaccards(*self.read(np.concatenate([[text], others])), at_least))


def band_keys(words: Words) -> np.ndarray:
    """Band keys of each text, shape (n, KEYS), uint32; a key that two texts have in one column proposes them as a pair.

    The row of a text without words is 0.
    """
    keys = np.zeros((len(words.offsets) - 1, KEYS), np.uint32)
    _band_keys(words.hashes, words.offsets, _FACTORS, _SUMMANDS, _ORDER, keys)
    return keys


def near_duplicates(
    keys: np.ndarray,
    texts: np.ndarray,
    store: WordStore,
    min_jaccard: float,
    *,
    keepers: int | None = None,
) -> Iterator[Match]:
    """Go through texts, best first; yield a Match for each that is at least `min_jaccard` similar to one that is kept.

    keys: band keys in that order, shape (n, KEYS); texts: their places in `store`, shape (n,); indices of a Match are
    those of the order. Every match is a text dropped for the first kept one it is similar to: clusters cannot chain.
    With `keepers` only the first so many texts drop others.
    """
    groups, members, bounds, group_bounds = _shared_keys(keys)
    dropped = np.zeros(len(keys), np.bool_)
    for document in np.flatnonzero(np.diff(bounds)).tolist():
        if keepers is not None and document >= keepers:
            return
        if dropped[document]:
            continue
        found = _proposed(
            document,
            groups[bounds[document] : bounds[document + 1]],
            members,
            group_bounds,
            dropped,
        )
        if keepers is not None:
            found = found[found >= keepers]
        if len(found):
            similarities = store.jaccards(int(texts[document]), texts[found], min_jaccard)
            for other, jaccard in zip(found.tolist(), similarities.tolist(), strict=True):
                if jaccard >= min_jaccard:
                    dropped[other] = True
                    yield Match(other, document, jaccard)


def _shared_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Groups of texts that share a key: the groups of text i are groups[bounds[i] : bounds[i + 1]], the texts of
    group g are members[group_bounds[g] : group_bounds[g + 1]], in ascending order."""
    filled = np.flatnonzero(keys.any(axis=1))
    members, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for column in range(keys.shape[1]):
        column_keys = keys[filled, column]
        order = np.argsort(column_keys, kind="stable")
        ranked = column_keys[order]
        starts = (
            np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
            if len(ranked)
            else order
        )
        lengths = np.diff(np.append(starts, len(ranked)))
        shared = np.repeat(lengths > 1, lengths)
        members.append(filled[order[shared]])
        sizes.append(lengths[lengths > 1])
    member, group_bounds = (
        np.concatenate(members),
        np.concatenate([[0], np.cumsum(np.concatenate(sizes))]),
    )
    group = np.repeat(np.arange(len(group_bounds) - 1), np.diff(group_bounds))
    bounds = np.concatenate([[0], np.cumsum(np.bincount(member, minlength=len(keys)))])
    return group[np.argsort(member, kind="stable")], member, bounds, group_bounds


@numba.njit(nogil=True, cache=True)
def _proposed(document, groups, members, group_bounds, dropped):
    """Texts behind `document` that share a key with it and are not dropped, in ascending order."""
    total = 0
    for group in groups:
        total += group_bounds[group + 1] - group_bounds[group]
    found, count = np.empty(total, np.int64), 0
    for group in groups:
        for place in range(group_bounds[group], group_bounds[group + 1]):
            other = members[place]
            if other > document and not dropped[other]:
                found[count] = other
                count += 1
    return np.unique(found[:count])


@numba.njit(inline="always")
def _shingles(words, size, hashes):
    """Hash of each run of `size` words, into the beginning of `hashes`; word after word, so that many go at once."""
    number = len(words) - size + 1
    hashes[:number] = np.uint64(size)
    for step in range(size):
        moved = words[step : step + number]
        for place in range(number):
            value = (hashes[place] ^ np.uint64(moved[place])) * np.uint64(0x9E3779B97F4A7C15)
            hashes[place] = value ^ (value >> np.uint64(29))
    for place in range(number):
        hashes[place] = mix(hashes[place])
    return number


@numba.njit(nogil=True, cache=True)
def _band_keys(hashes, offsets, factors, summands, order, keys):
    longest = (offsets[1:] - offsets[:-1]).max() if len(keys) else 0
    minima, short = np.empty(len(factors), np.uint32), np.empty(longest, np.uint32)
    shingles = np.empty(longest, np.uint64)
    for text in range(len(keys)):
        words = hashes[offsets[text] : offsets[text + 1]]
        if len(words) == 0:
            continue
        number = _shingles(words, min(len(words), SHINGLE_WORDS), shingles)
        short[:number] = shingles[:number] >> np.uint64(32)
        for row in range(len(factors)):
            factor, summand, least = factors[row], summands[row], np.uint32(0xFFFFFFFF)
            for place in range(number):
                least = min(least, np.uint32(short[place] * factor + summand))
            minima[row] = least
        for key in range(keys.shape[1]):
            value = np.uint64(key + 1)
            for row in range(key * ROWS, (key + 1) * ROWS):
                value = mix(value * np.uint64(0x9E3779B97F4A7C15) + np.uint64(minima[order[row]]))
            keys[text, key] = max(np.uint32(1), np.uint32(value >> np.uint64(32)))


@numba.njit(inline="always")
def room(count):
    """A power of two, at least twice the count: the size of a hash table."""
    size = 4
    while size < 2 * count:
        size *= 2
    return size


@numba.njit(nogil=True, cache=True)
def _jaccards(words, offsets, at_least):
    """Similarity of the first text to each of the others, shape (n - 1,), by two hash tables that fit a cache."""
    lengths = offsets[1:] - offsets[:-1]
    most = lengths.max()  # shingles of a text that the first has not
    if at_least > 0:  # one that has more of them is left
        most = min(most, np.int64((lengths[0] + 1) / at_least) - lengths[0] + 2)
    first, in_first = np.empty(room(lengths[0]), np.uint64), np.full(room(lengths[0]), -1, np.int32)
    missing, in_missing = np.empty(room(most), np.uint64), np.full(room(most), -1, np.int32)
    shingles, similarities, distinct = np.empty(AT_ONCE, np.uint64), np.zeros(len(lengths)), 0
    for text in range(len(lengths)):
        own = words[offsets[text] : offsets[text + 1]]
        size = min(len(own), SHINGLE_WORDS)
        number, shared, extra = len(own) - size + 1, 0, 0
        for place in range(number):
            if place % AT_ONCE == 0:
                _shingles(own[place : place + AT_ONCE + size - 1], size, shingles)
            shingle = shingles[place % AT_ONCE]
            slot = shingle & np.uint64(len(first) - 1)
            while in_first[slot] >= 0 and first[slot] != shingle:
                slot = (slot + np.uint64(1)) & np.uint64(len(first) - 1)
            if in_first[slot] >= 0 or text == 0:
                shared += in_first[slot] != text
                first[slot], in_first[slot] = shingle, text
                continue
            slot = shingle & np.uint64(len(missing) - 1)
            while in_missing[slot] == text and missing[slot] != shingle:
                slot = (slot + np.uint64(1)) & np.uint64(len(missing) - 1)
            if in_missing[slot] == text:
                continue
            missing[slot], in_missing[slot] = shingle, text
            extra += 1
            # Even if all that is left were shared: what one lacks of the other stays lacking.
            if min(distinct, shared + number - place - 1) < at_least * (distinct + extra) - 1e-9:
                shared = 0
                break
        if text == 0:
            distinct = shared
        similarities[text] = shared / (distinct + extra)
    return similarities[1:]
