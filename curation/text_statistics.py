"""What can be counted in a text: the statistics that filters of web corpora put thresholds on.

One compiled pass over the bytes, and one over the words for each length of run. Lines count when they have a letter
or digit. Gopher's shares of characters in repeated runs are counted in words here.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

import numba
import numpy as np
import pyarrow as pa

from curation.decontamination import run_hashes
from curation.words import IN_WORD, OPERATOR, Words, character_classes, class_of, decode, mix, text_buffers, word_hash

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher: two of them in any English text
SHORT_LINE = 30  # characters: FineWeb
CHARACTERS = (
    "alphabetic_fraction", "alphanumeric_fraction", "repeated_line_fraction", "repeated_line_character_fraction",
    "mean_word_characters", "symbols_per_word", "alphabetic_word_fraction", "bullet_line_fraction",
    "ellipsis_line_fraction", "punctuated_line_fraction", "short_line_fraction", "lines_per_word", "sentences",
    "curly_brackets", "lorem_ipsum",
)  # fmt: skip
TOP_RUNS, REPEATED_RUNS = (2, 3, 4), (5, 6, 7, 8, 9, 10)  # Gopher, table A1
_STOP_HASHES = np.array([word_hash(word) for word in STOP_WORDS], np.uint32)
_LOREM, _IPSUM = (np.uint32(word_hash(word)) for word in ("lorem", "ipsum"))


def measure(texts: pa.Array, words: Words, names: set[str]) -> dict[str, np.ndarray]:
    """The named statistics of n texts, each of shape (n,); `words` are those of the same texts."""
    measured = {"words": words.counts.astype(np.float64)}
    if names & {*CHARACTERS} - {"lorem_ipsum"}:
        data, offsets = text_buffers(texts)
        table = np.zeros((len(words.counts), len(CHARACTERS)))
        _characters(data, offsets, character_classes(), table)
        measured |= dict(zip(CHARACTERS, table.T, strict=True))
    if "stop_words" in names:
        places = [np.isin(words.hashes, stop) for stop in _STOP_HASHES]
        measured["stop_words"] = np.sum([_per_text(place, words) > 0 for place in places], axis=0)
    if "lorem_ipsum" in names:
        phrase = np.append((words.hashes[:-1] == _LOREM) & (words.hashes[1:] == _IPSUM), False)[: len(words.hashes)]
        measured["lorem_ipsum"] = _per_text(phrase, words)
    for size in (*TOP_RUNS, *REPEATED_RUNS):
        name = f"{'top' if size in TOP_RUNS else 'repeated'}_{size}gram_fraction"
        if name in names:
            top, repeated = _runs(run_hashes(words, size), words.offsets, size)
            measured[name] = top if size in TOP_RUNS else repeated
    return measured


def _per_text(places: np.ndarray, words: Words) -> np.ndarray:
    sums = np.concatenate([[0.0], np.cumsum(places)])
    counts: np.ndarray = sums[words.offsets[1:]] - sums[words.offsets[:-1]]
    return counts


@numba.njit(nogil=True, cache=True)
def _characters(data, offsets, classes, table):  # noqa: PLR0915 - one pass over the bytes
    longest = 1
    for text in range(len(offsets) - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    capacity = 4
    while capacity < longest:
        capacity *= 2
    seen = np.zeros(capacity, np.uint64)
    for text in range(len(offsets) - 1):
        place, end = offsets[text], offsets[text + 1]
        size = 4
        while size < (end - place) // 2:
            size *= 2
        seen[:size] = 0
        characters = letters = digits = spaces = tokens = lettered = symbols = sentences = curly = 0
        lines = repeated = repeated_characters = bullets = ellipses = punctuated = short = 0
        token = token_letter = False
        line, line_length, line_filled, first, last, before = np.uint64(0), 0, False, 0, 0, 0
        while place <= end:
            code, width = np.uint32(10), 1  # the end of a text ends a line
            if place < end:
                code = np.uint32(data[place])
                if code >= 128:
                    code, width = decode(data, place)
                characters += 1
            kind = class_of(code, classes)
            space = kind == 0 and (code <= 32 or code in (0xA0, 0x3000) or 0x2000 <= code <= 0x200A)
            digit = 48 <= code <= 57
            word = IN_WORD <= kind < OPERATOR
            letters += word and not digit
            digits += digit
            spaces += space and place < end
            curly += code == 123
            if space:
                tokens += token
                lettered += token_letter
                sentences += token and last in (33, 46, 63, 0x3002)
                token = token_letter = False
            else:
                token = True
                token_letter |= word and not digit
                symbols += code in (35, 0x2026) or (code == 46 and last == 46 and before == 46)
                first = code if line_length == 0 else first
                before, last = last, code
                line = mix(line ^ np.uint64(code))
                line_filled |= word
            line_length += code != 10 and (line_length > 0 or not space)
            if code == 10:
                if line_filled:
                    lines += 1
                    slot = np.int64(line & np.uint64(size - 1))
                    while seen[slot] != 0 and seen[slot] != line:
                        slot = (slot + 1) % size
                    repeated += seen[slot] == line
                    repeated_characters += line_length if seen[slot] == line else 0
                    seen[slot] = line
                    bullets += first in (42, 45, 0x2022)
                    ellipses += last == 0x2026 or (last == 46 and before == 46)
                    punctuated += last in (33, 34, 46, 63, 0x3002)
                    short += line_length <= SHORT_LINE
                line, line_length, line_filled, first, before = np.uint64(0), 0, False, 0, 0
            place += width
        some, per_line, per_token = max(1, characters), max(1, lines), max(1, tokens)
        row = table[text]
        row[0], row[1] = (letters + spaces) / some, (letters + spaces + digits) / some
        row[2], row[3] = repeated / per_line, repeated_characters / some
        row[4], row[5], row[6] = (characters - spaces) / per_token, symbols / per_token, lettered / per_token
        row[7], row[8], row[9] = bullets / per_line, ellipses / per_line, punctuated / per_line
        row[10], row[11], row[12], row[13] = short / per_line, lines / per_token, sentences, curly


@numba.njit(nogil=True, cache=True)
def _runs(runs, offsets, size):
    """Share of the words in the most frequent run, and in runs that stood before, of each text."""
    longest = 4
    for text in range(len(offsets) - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    capacity = 4
    while capacity < 2 * longest:
        capacity *= 2
    table, counts = np.zeros(capacity, np.uint64), np.zeros(capacity, np.int32)
    top, repeated = np.zeros(len(offsets) - 1), np.zeros(len(offsets) - 1)
    for text in range(len(offsets) - 1):
        start, end = offsets[text], offsets[text + 1]
        room = 4
        while room < 2 * (end - start):
            room *= 2
        table[:room] = 0
        counts[:room] = 0
        best, covered, until = 0, 0, start
        for place in range(start, end - size + 1):
            slot = np.int64(runs[place] & np.uint64(room - 1))
            while table[slot] != 0 and table[slot] != runs[place]:
                slot = (slot + 1) % room
            table[slot] = runs[place]
            counts[slot] += 1
            best = max(best, counts[slot])
            if counts[slot] > 1:
                covered += place + size - max(place, until)
                until = place + size
        top[text] = min(1.0, best * size / max(1, end - start)) if best > 1 else 0.0
        repeated[text] = covered / max(1, end - start)
    return top, repeated
