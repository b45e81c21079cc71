"""MinHash keys of texts, pairs of texts that share one, and their exact similarities."""

# mypy: disable-error-code="no-untyped-def"

import numba
import numpy as np

from lmadapt.curation.kernels.hashing import GOLDEN, find_slot, mix, table_size

SHINGLE_WORDS = 5
SHINGLES_AT_ONCE = 128  # hashed before one of them is looked at


@numba.njit(nogil=True, cache=True)
def proposed(document, groups, members, group_bounds, dropped):
    """Texts after `document` that share a key with it and are not dropped, in ascending order."""
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
    """Write the hash of each run of `size` words to the start of `hashes`; return their number.

    The loop over words is the outer one, so that the processor hashes many shingles at once.
    """
    number = len(words) - size + 1
    hashes[:number] = np.uint64(size)
    for step in range(size):
        moved = words[step : step + number]
        for place in range(number):
            value = (hashes[place] ^ np.uint64(moved[place])) * GOLDEN
            hashes[place] = value ^ (value >> np.uint64(29))
    for place in range(number):
        hashes[place] = mix(hashes[place])
    return number


@numba.njit(nogil=True, cache=True)
def write_band_keys(hashes, offsets, factors, summands, order, keys):
    """Write the band keys of each text to its row of `keys`.

    factors, summands: one hash function a minimum; order: which minima each band hashes.
    """
    longest = (offsets[1:] - offsets[:-1]).max() if len(keys) else 0
    minima, short = np.empty(len(factors), np.uint32), np.empty(longest, np.uint32)
    shingles = np.empty(longest, np.uint64)
    band = len(order) // keys.shape[1]
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
            for row in range(key * band, (key + 1) * band):
                value = mix(value * GOLDEN + np.uint64(minima[order[row]]))
            keys[text, key] = max(np.uint32(1), np.uint32(value >> np.uint64(32)))


@numba.njit(nogil=True, cache=True)
def jaccards(words, offsets, at_least):
    """Similarity of the first text to each of the others, shape (n - 1,).

    Two hash tables hold shingles: `first` those of the first text, `missing` those of the other
    text that the first lacks. Each entry names the text that wrote it last, so that neither
    table is cleared between texts.
    """
    lengths = offsets[1:] - offsets[:-1]
    most = lengths.max()
    if at_least > 0:  # reading stops at a text with more shingles that the first lacks
        most = min(most, np.int64((lengths[0] + 1) / at_least) - lengths[0] + 2)
    first = np.empty(table_size(lengths[0]), np.uint64)
    in_first = np.full(table_size(lengths[0]), -1, np.int32)
    missing = np.empty(table_size(most), np.uint64)
    in_missing = np.full(table_size(most), -1, np.int32)
    shingles = np.empty(SHINGLES_AT_ONCE, np.uint64)
    similarities, distinct = np.zeros(len(lengths)), 0
    for text in range(len(lengths)):
        own = words[offsets[text] : offsets[text + 1]]
        size = min(len(own), SHINGLE_WORDS)
        number, shared, extra = len(own) - size + 1, 0, 0
        for place in range(number):
            if place % SHINGLES_AT_ONCE == 0:
                _shingles(own[place : place + SHINGLES_AT_ONCE + size - 1], size, shingles)
            shingle = shingles[place % SHINGLES_AT_ONCE]
            slot = shingle & np.uint64(len(first) - 1)
            slot = find_slot(first, in_first, 0, shingle, slot)
            if in_first[slot] >= 0 or text == 0:
                shared += in_first[slot] != text
                first[slot], in_first[slot] = shingle, text
                continue
            slot = shingle & np.uint64(len(missing) - 1)
            slot = find_slot(missing, in_missing, text, shingle, slot)
            if in_missing[slot] == text:
                continue
            missing[slot], in_missing[slot] = shingle, text
            extra += 1
            # The bound holds even if the first text has every shingle that is still unread.
            if min(distinct, shared + number - place - 1) < at_least * (distinct + extra) - 1e-9:
                shared = 0
                break
        if text == 0:
            distinct = shared
        similarities[text] = shared / (distinct + extra)
    return similarities[1:]
