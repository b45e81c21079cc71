"""Rule `boilerplate`: lines that many documents of a source have are removed from all of them.

Such lines are navigation, licence headers and footers. They are known by 64-bit hashes.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmadapt.core.tables import RAW_TABLES, count_groups, read_group
from lmadapt.curation.kernels.boilerplate import count_lines, write_line_hashes
from lmadapt.curation.parallel import map_threads
from lmadapt.curation.word_hashes import text_buffers, text_column

MIN_DOCUMENTS = 10  # with fewer that share a line, a share of them says nothing
MIN_CHARACTERS = 12  # of a line: braces and "return" repeat everywhere
MAX_LINES = 500_000  # counted at once

HashedLines = tuple[np.ndarray, np.ndarray]  # what line_hashes gives


def find_boilerplate(
    file: Path, role: str, min_fraction: float, threads: int
) -> dict[str, np.ndarray]:
    """By source, the hashes of the lines that at least `min_fraction` of its documents have.

    file: the raw table of `role`; the rows of a source follow each other in it.
    """
    groups = range(count_groups(file, RAW_TABLES[role]))
    parts = chain.from_iterable(map_threads(partial(_hash_group, file, role), groups, threads))
    found = {}
    for source, own in groupby(parts, key=itemgetter(0)):
        lines = common_lines((hashed for _, hashed in own), min_fraction)
        if len(lines):
            found[source] = lines
    return found


def _hash_group(file: Path, role: str, group: int) -> list[tuple[str, HashedLines]]:
    """The sources in a group of rows, with the line hashes of their texts."""
    table = read_group(file, RAW_TABLES[role], group)
    texts = table["text"].cast(pa.large_string()).fill_null("")
    sources, hashed = table["source"].unique().to_pylist(), []
    for source in sources:
        own = texts if len(sources) == 1 else texts.filter(pc.equal(table["source"], source))
        hashed.append((source, line_hashes(own.combine_chunks())))
    return hashed


def common_lines(groups: Iterable[HashedLines], min_fraction: float) -> np.ndarray:
    """Sorted hashes of the lines that at least `min_fraction` of the texts have.

    groups: line_hashes of texts of one source. Memory does not grow with their number: lines
    too rare so far are forgotten from time to time, which makes a count too small by at most
    texts x lines a text / MAX_LINES (Manku and Motwani 2002).
    """
    capacity = 1 << (4 * MAX_LINES - 1).bit_length()
    keys, counts = np.zeros(capacity, np.uint64), np.zeros(capacity, np.int32)
    last, number, forgotten = np.zeros(capacity, np.int64), 0, 0
    for hashes, offsets in groups:
        forgotten = count_lines(hashes, offsets, keys, counts, last, number, forgotten, MAX_LINES)
        number += len(offsets) - 1
    return np.sort(keys[counts >= max(MIN_DOCUMENTS, min_fraction * number)])


def remove_lines(texts: Sequence[str], common: np.ndarray) -> Iterator[tuple[int, str, int]]:
    """For each text with lines of these hashes: its index, the text without them, their number."""
    hashes, offsets = line_hashes(text_column(texts))
    marked = np.isin(hashes, common)
    counts = np.add.reduceat(marked, offsets[:-1], dtype=np.int64) if texts else offsets[:0]
    for text in np.flatnonzero(counts).tolist():
        own = marked[offsets[text] : offsets[text + 1]].tolist()
        lines = zip(texts[text].split("\n"), own, strict=True)
        kept = [line for line, removed in lines if not removed]
        yield text, "\n".join(kept).strip(), int(counts[text])


def line_hashes(texts: pa.Array) -> HashedLines:
    """A hash of each line, and the index of each text's first line; shapes (lines,) and (n + 1,).

    White space at the ends of a line does not count; a line below MIN_CHARACTERS gets 0. A text
    has one line more than line feeds.
    """
    data, places = text_buffers(texts)
    offsets = np.zeros(len(places), np.int64)
    line_feeds = int(np.count_nonzero(data[places[0] : places[-1]] == ord("\n")))
    hashes = np.zeros(line_feeds + len(texts), np.uint64)
    write_line_hashes(data, places, hashes, offsets, MIN_CHARACTERS)
    return hashes, offsets
