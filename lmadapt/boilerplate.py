"""Lines that stand in many documents of a source: navigation, licence headers, footers.

Documents are counted for each line in a table of fixed size, however large the source: a place of the table holds
one line, by its hash, and another line that falls on it takes a vote away (Boyer and Moore 1991; Misra and Gries
1982). A line that stands in many documents keeps its place, with a count too small by at most what fell on it.
"""

from dataclasses import dataclass, field

import numba
import numpy as np
import pyarrow as pa

from lmadapt.words import mix, text_buffers

MIN_DOCUMENTS = 10  # that share a line, before any share of them says something
MIN_LINE_BYTES = 12  # of what is no white space at the ends: braces and "return" repeat everywhere
PLACES = 2**20


@dataclass
class LineCounts:
    """In how many documents of one source each line stands."""

    documents: int = 0
    lines: np.ndarray = field(default_factory=lambda: np.zeros(PLACES, np.uint64))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(PLACES, np.int32))
    last: np.ndarray = field(default_factory=lambda: np.full(PLACES, -1, np.int32))

    def add(self, texts: pa.Array) -> None:
        """Count the lines of further documents."""
        data, offsets = text_buffers(texts)
        _count(data, offsets, self.documents, self.lines, self.counts, self.last)
        self.documents += len(texts)

    def repeated(self, min_fraction: float) -> np.ndarray:
        """Sorted hashes of the lines in at least `min_fraction` of the documents, and in MIN_DOCUMENTS."""
        hashes: np.ndarray = np.sort(self.lines[self.counts >= max(MIN_DOCUMENTS, min_fraction * self.documents)])
        return hashes


def remove_lines(texts: pa.Array, repeated: np.ndarray) -> dict[int, tuple[str, int]]:
    """For each text that has a repeated line: the text without those lines, and their number."""
    data, offsets = text_buffers(texts)
    found = np.empty((len(data) // MIN_LINE_BYTES + 1, 3), np.int64)  # what is not filled costs no memory
    found = found[: _find(data, offsets, repeated, found) if len(repeated) else 0]
    changed = {}
    for lines in np.split(found, np.flatnonzero(np.diff(found[:, 0])) + 1) if len(found) else ():
        text, pieces = int(lines[0, 0]), []
        place = offsets[text]
        for _, start, end in lines.tolist():
            pieces.append(data[place:start].tobytes())
            place = end
        pieces.append(data[place : offsets[text + 1]].tobytes())
        changed[text] = b"".join(pieces).decode(), len(lines)
    return changed


@numba.njit(inline="always")  # type: ignore[misc]
def _line(data, place, end):  # type: ignore[no-untyped-def]
    """Where the next line begins, and the hash of this one without white space at its ends; 0 when it is too short."""
    value, pending, length = np.uint64(0), np.uint64(0), 0
    while place < end:
        byte = data[place]
        place += 1
        if byte == 10:
            break
        if byte <= 32:
            pending += np.uint64(length > 0)
            continue
        value = (value ^ (pending << np.uint64(8) | np.uint64(byte))) * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(32)
        length += 1 + np.int64(pending)
        pending = np.uint64(0)
    return place, max(mix(value), np.uint64(1)) if length >= MIN_LINE_BYTES else np.uint64(0)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc]
def _count(data, offsets, documents, lines, counts, last):  # type: ignore[no-untyped-def]
    for text in range(len(offsets) - 1):
        place, end = offsets[text], offsets[text + 1]
        while place < end:
            place, line = _line(data, place, end)
            slot = np.int64(line % np.uint64(len(lines)))
            if line == 0 or (lines[slot] == line and last[slot] == documents + text):
                continue
            if lines[slot] == line or counts[slot] == 0:
                lines[slot] = line
                counts[slot] += 1
                last[slot] = documents + text
            else:
                counts[slot] -= 1


@numba.njit(nogil=True, cache=True)  # type: ignore[misc]
def _find(data, offsets, repeated, found):  # type: ignore[no-untyped-def]
    """Number of repeated lines; each goes to `found`: text, first byte, end."""
    count = 0
    for text in range(len(offsets) - 1):
        place, end = offsets[text], offsets[text + 1]
        while place < end:
            start = place
            place, line = _line(data, place, end)
            slot = np.searchsorted(repeated, line)
            if line and slot < len(repeated) and repeated[slot] == line:
                found[count] = (text, start, place)
                count += 1
    return count
