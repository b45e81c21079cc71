"""Rolling hashes of runs of words, and looking them up."""

# mypy: disable-error-code="no-untyped-def"

import numba
import numpy as np

from lmadapt.curation.kernels.hashing import GOLDEN, mix


@numba.njit(nogil=True, cache=True)
def write_run_hashes(words, offsets, size, top, hashes):
    """Write the hash of the `size` words from each word on to `hashes`, rolled from word to word.

    top: GOLDEN ** size modulo 2**64. A word from which no whole run starts keeps its 0.
    """
    for text in range(len(offsets) - 1):
        value, start = np.uint64(0), offsets[text]
        for place in range(start, offsets[text + 1]):
            value = value * GOLDEN + np.uint64(words[place])
            if place >= start + size:
                value -= top * np.uint64(words[place - size])
            if place >= start + size - 1:
                hashes[place - size + 1] = max(mix(value + np.uint64(size)), np.uint64(1))


@numba.njit(nogil=True, cache=True)
def in_sorted(values, wanted):
    """Which values are among `wanted`, which is sorted, shape of `values`.

    A table of the upper 20 bits of `wanted` rules nearly all values out without a search.
    """
    table, found = np.zeros(2**20, np.bool_), np.zeros(len(values), np.bool_)
    for value in wanted:
        table[value >> np.uint64(44)] = True
    for place, value in enumerate(values):
        if table[value >> np.uint64(44)]:
            nearest = np.searchsorted(wanted, value)
            found[place] = nearest < len(wanted) and wanted[nearest] == value
    return found
