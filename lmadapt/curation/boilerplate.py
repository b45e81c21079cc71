"""Lines that stand in many documents of a source: navigation, licence headers, footers; known by 64-bit hashes."""

# mypy: disable-error-code="no-untyped-def, assignment"

from collections.abc import Iterable, Iterator, Sequence

import numba
import numpy as np
import pyarrow as pa

from lmadapt.curation.word_hashes import mix, text_buffers, text_column

MIN_DOCUMENTS = 10  # that share a line, before any share of them says something
MIN_CHARACTERS = 12  # of a line: braces and "return" repeat everywhere
MAX_LINES = 500_000  # counted at once


def common_lines(
    groups: Iterable[tuple[np.ndarray, np.ndarray]], min_fraction: float
) -> np.ndarray:
    """Hashes, sorted, of the lines, without white space at their ends, that at least `min_fraction` of the texts have.

    groups: `line_hashes` of texts of a source. Memory does not grow with them: lines seen too rarely so far to matter
    are forgotten from time to time, which makes a count too small by at most texts x lines a text / MAX_LINES (Manku
    and Motwani 2002).
    """
    capacity = 1 << (4 * MAX_LINES - 1).bit_length()
    keys, counts = np.zeros(capacity, np.uint64), np.zeros(capacity, np.int32)
    last, number, forgotten = np.zeros(capacity, np.int64), 0, 0
    for hashes, offsets in groups:
        forgotten = _count(hashes, offsets, keys, counts, last, number, forgotten, MAX_LINES)
        number += len(offsets) - 1
    return np.sort(keys[counts >= max(MIN_DOCUMENTS, min_fraction * number)])


def remove_lines(texts: Sequence[str], common: np.ndarray) -> Iterator[tuple[int, str, int]]:
    """For each text with lines of these hashes: its index, the text without them, and how many they were."""
    hashes, offsets = line_hashes(text_column(texts))
    marked = np.isin(hashes, common)
    counts = np.add.reduceat(marked, offsets[:-1], dtype=np.int64) if texts else offsets[:0]
    for text in np.flatnonzero(counts).tolist():
        own = marked[offsets[text] : offsets[text + 1]]
        kept = [
            line
            for line, drop in zip(texts[text].split("\n"), own.tolist(), strict=True)
            if not drop
        ]
        yield text, "\n".join(kept).strip(), int(counts[text])


def line_hashes(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Hash of each line without ASCII white space at its ends, 0 for one that is too short; and the first of each text.

    Shapes (lines,) and (n + 1,); a text has one line more than line feeds.
    """
    data, places = text_buffers(texts)
    offsets = np.zeros(len(places), np.int64)
    hashes = np.zeros(
        int(np.count_nonzero(data[places[0] : places[-1]] == 10)) + len(texts), np.uint64
    )
    _line_hashes(data, places, hashes, offsets, MIN_CHARACTERS)
    return hashes, offsets


@numba.njit(nogil=True, cache=True)
def _line_hashes(data, places, hashes, offsets, min_characters):
    line = 0
    for text in range(len(places) - 1):
        place = places[text]
        while place <= places[text + 1]:
            start = place
            while place < places[text + 1] and data[place] != 10:
                place += 1
            end = place
            while start < end and (data[start] == 32 or 9 <= data[start] <= 13):
                start += 1
            while start < end and (data[end - 1] == 32 or 9 <= data[end - 1] <= 13):
                end -= 1
            value, characters = np.uint64(1), 0
            for byte in data[start:end]:
                value = (value ^ np.uint64(byte)) * np.uint64(0x9E3779B97F4A7C15)
                characters += byte & 0xC0 != 0x80
            if characters >= min_characters:
                hashes[line] = max(mix(value), np.uint64(1))
            line += 1
            place += 1
        offsets[text + 1] = line


@numba.njit(inline="always")
def _slot(keys, key):
    slot = np.int64(key & np.uint64(len(keys) - 1))
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@numba.njit(nogil=True, cache=True)
def _count(hashes, offsets, keys, counts, last, number, forgotten, most):
    """Count each line once a text in the hash table `keys`; the number of texts was `number`. Returns `forgotten`."""
    filled = np.count_nonzero(keys)
    for text in range(len(offsets) - 1):
        for key in hashes[offsets[text] : offsets[text + 1]]:
            if key == 0:
                continue
            slot = _slot(keys, key)
            if keys[slot] == 0:
                while filled >= most:
                    forgotten += 1
                    kept = np.flatnonzero(counts > forgotten)
                    old, old_counts, old_last, filled = (
                        keys[kept],
                        counts[kept],
                        last[kept],
                        len(kept),
                    )
                    keys[:], counts[:] = 0, 0
                    for place in range(filled):
                        again = _slot(keys, old[place])
                        keys[again], counts[again], last[again] = (
                            old[place],
                            old_counts[place],
                            old_last[place],
                        )
                    slot = _slot(keys, key)
                keys[slot], last[slot] = key, -1
                filled += 1
            if last[slot] != number + text:
                last[slot] = number + text
                counts[slot] += 1
    return forgotten
