"""Hashes of lines, and how many texts have each line."""

# mypy: disable-error-code="no-untyped-def"

import numba
import numpy as np

from lmadapt.curation.kernels.hashing import GOLDEN, find_slot, mix

LINE_FEED = 10


@numba.njit(inline="always")
def _is_space(byte):
    return byte == 32 or 9 <= byte <= 13


@numba.njit(nogil=True, cache=True)
def write_line_hashes(data, places, hashes, offsets, min_characters):
    """Write the hash of each line to `hashes`; to offsets[i + 1] the number of lines up to text i.

    A line of fewer than `min_characters` characters keeps its 0. data, places: the texts.
    """
    line = 0
    for text in range(len(places) - 1):
        place = places[text]
        while place <= places[text + 1]:
            start = place
            while place < places[text + 1] and data[place] != LINE_FEED:
                place += 1
            end = place
            while start < end and _is_space(data[start]):
                start += 1
            while start < end and _is_space(data[end - 1]):
                end -= 1
            value, characters = np.uint64(1), 0
            for byte in data[start:end]:
                value = (value ^ np.uint64(byte)) * GOLDEN
                characters += byte & 0xC0 != 0x80
            if characters >= min_characters:
                hashes[line] = max(mix(value), np.uint64(1))
            line += 1
            place += 1
        offsets[text + 1] = line


@numba.njit(inline="always")
def _slot(keys, key):
    return find_slot(keys, keys, np.uint64(1), key, key & np.uint64(len(keys) - 1))


@numba.njit(nogil=True, cache=True)
def _forget(keys, counts, last, rare):
    """Remove the lines that at most `rare` texts have; return the number of lines left."""
    kept = np.flatnonzero(counts > rare)
    old, old_counts, old_last = keys[kept], counts[kept], last[kept]
    keys[:], counts[:] = 0, 0
    for place in range(len(kept)):
        slot = _slot(keys, old[place])
        keys[slot], counts[slot], last[slot] = old[place], old_counts[place], old_last[place]
    return len(kept)


@numba.njit(nogil=True, cache=True)
def count_lines(hashes, offsets, keys, counts, last, number, forgotten, most):
    """Count each line once a text in a hash table: its keys, counts, and `last` text to have it.

    `number` texts were counted before these. Where the table would hold more than `most` lines,
    the rarest are removed. Returns the count up to which lines were removed, at first `forgotten`.
    """
    filled = np.count_nonzero(keys)
    for text in range(len(offsets) - 1):
        for key in hashes[offsets[text] : offsets[text + 1]]:
            if key == 0:
                continue
            slot = _slot(keys, key)
            if keys[slot] == 0:
                while filled >= most:
                    forgotten += 1
                    filled = _forget(keys, counts, last, forgotten)
                    slot = _slot(keys, key)
                keys[slot], last[slot] = key, -1
                filled += 1
            if last[slot] != number + text:
                last[slot] = number + text
                counts[slot] += 1
    return forgotten
