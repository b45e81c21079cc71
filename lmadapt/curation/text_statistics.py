"""What can be counted in a text: the statistics that filters of web corpora put thresholds on.

One compiled pass over the bytes, and one over the words, in which a run of n words is looked for only where both runs
of n - 1 in it stand twice. Lines count when they have a letter or digit. Gopher's shares of characters in repeated runs
are counted in words here.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

import functools

import numba
import numpy as np
import pyarrow as pa

from lmadapt.curation.near_duplicates import room
from lmadapt.curation.word_hashes import (
    IN_WORD,
    OPERATOR,
    Words,
    character_classes,
    class_of,
    decode,
    mix,
    text_buffers,
    word_hash,
)

STOP_WORDS = (
    "the",
    "be",
    "to",
    "of",
    "and",
    "that",
    "have",
    "with",
)  # Gopher: two of them in any English text
SHORT_LINE = 30  # characters: FineWeb
CHARACTERS = (
    "alphabetic_fraction", "alphanumeric_fraction", "repeated_line_fraction", "repeated_line_character_fraction",
    "mean_word_characters", "symbols_per_word", "alphabetic_word_fraction", "bullet_line_fraction",
    "ellipsis_line_fraction", "punctuated_line_fraction", "short_line_fraction", "lines_per_word", "sentences",
    "curly_brackets",
)  # fmt: skip
TOP_RUNS, REPEATED_RUNS = (2, 3, 4), (5, 6, 7, 8, 9, 10)  # Gopher, table A1
WORDS = (
    "stop_words", "lorem_ipsum", *(f"top_{size}gram_fraction" for size in TOP_RUNS),
    *(f"repeated_{size}gram_fraction" for size in REPEATED_RUNS),
)  # fmt: skip
_SPACE, _LETTER, _DIGIT, _WORD, _SIGN = 1, 2, 4, 8, 16  # what a character is, as bits
_WANTED = np.array([word_hash(word) for word in (*STOP_WORDS, "lorem", "ipsum")], np.uint32)


def measure(texts: pa.Array, words: Words, names: set[str]) -> dict[str, np.ndarray]:
    """The named statistics of n texts, each of shape (n,); `words` are those of the same texts."""
    measured = {"words": words.counts.astype(np.float64)}
    if names & {*CHARACTERS}:
        data, offsets = text_buffers(texts)
        table = np.zeros((len(words.counts), len(CHARACTERS)))
        _characters(data, offsets, _marks(), table)
        measured |= dict(zip(CHARACTERS, table.T, strict=True))
    if names & {*WORDS}:
        table = np.zeros((len(words.counts), len(WORDS)))
        _words(words.hashes, words.offsets, _WANTED, table)
        measured |= dict(zip(WORDS, table.T, strict=True))
    return measured


@functools.cache
def _marks() -> np.ndarray:
    """What each character of the Basic Multilingual Plane is, as bits; shape (65536,), uint8."""
    classes, codes = character_classes(), np.arange(2**16)
    word, digit = (classes >= IN_WORD) & (classes < OPERATOR), (codes >= 48) & (codes <= 57)
    blank = (codes <= 32) | np.isin(codes, (0xA0, 0x3000)) | (codes >= 0x2000) & (codes <= 0x200A)
    marks = (
        (classes == 0) * blank * _SPACE | (word & ~digit) * _LETTER | digit * _DIGIT | word * _WORD
    )
    return np.asarray(marks | np.isin(codes, (35, 46, 123, 0x2026)) * _SIGN, np.uint8)


@numba.njit(nogil=True, cache=True)
def _characters(data, offsets, marks, table):  # noqa: PLR0915 - one pass over the bytes
    for text in range(len(offsets) - 1):
        place, end = offsets[text], offsets[text + 1]
        seen = np.zeros(room(1 + np.count_nonzero(data[place:end] == 10)), np.uint64)
        visible = letters = digits = tokens = lettered = symbols = sentences = curly = wide = 0
        lines = repeated = repeated_characters = bullets = ellipses = punctuated = short = 0
        line, line_found, line_start, first, last, before = np.uint64(0), np.uint8(0), -1, 0, 0, 0
        while place <= end:  # what stands up to the next white space, and that
            start, narrow, found, code, width = place, wide, np.uint8(0), np.uint32(10), 1
            while place < end:
                code, width = np.uint32(data[np.uint64(place)]), 1
                if code >= 128:
                    code, width = decode(data, place)
                beyond = np.uint8(
                    (_LETTER | _WORD) * (code >= 0x10000 and class_of(code, marks) > 0)
                )
                mark = marks[np.uint64(code)] if code < 0x10000 else beyond
                if mark & _SPACE:
                    break
                found |= mark
                letters, digits = letters + (mark >> 1 & 1), digits + (mark >> 2 & 1)
                if mark & _SIGN:
                    curly += code == 123
                    symbols += code in (35, 0x2026) or (code == 46 and last == 46 and before == 46)
                if line_start < 0:
                    line_start, first = place - wide, code
                before, last = last, code
                line = (line ^ np.uint64(code)) * np.uint64(0x100000001B3)
                wide += width - 1
                place += width
            visible += place - start - (wide - narrow)
            line_found |= found
            tokens += place > start
            lettered += found >> 1 & 1
            sentences += place > start and last in (33, 46, 63, 0x3002)
            if place >= end or code == 10:  # the end of a text ends a line
                if line_found & _WORD:
                    lines += 1
                    line = max(mix(line), np.uint64(1))
                    slot = line & np.uint64(len(seen) - 1)
                    while seen[slot] != 0 and seen[slot] != line:
                        slot = (slot + np.uint64(1)) & np.uint64(len(seen) - 1)
                    line_length = place - wide - line_start
                    repeated += seen[slot] == line
                    repeated_characters += line_length if seen[slot] == line else 0
                    seen[slot] = line
                    bullets += first in (42, 45, 0x2022)
                    ellipses += last == 0x2026 or (last == 46 and before == 46)
                    punctuated += last in (33, 34, 46, 63, 0x3002)
                    short += line_length <= SHORT_LINE
                line, line_found, line_start, before = np.uint64(0), np.uint8(0), -1, 0
            wide += (width - 1) * (place < end)
            place += width
        characters, spaces = end - offsets[text] - wide, end - offsets[text] - wide - visible
        some, per_line, per_token = max(1, characters), max(1, lines), max(1, tokens)
        row = table[text]
        row[0], row[1] = (letters + spaces) / some, (letters + spaces + digits) / some
        row[2], row[3] = repeated / per_line, repeated_characters / some
        row[4], row[5], row[6] = (
            (characters - spaces) / per_token,
            symbols / per_token,
            lettered / per_token,
        )
        row[7], row[8], row[9] = bullets / per_line, ellipses / per_line, punctuated / per_line
        row[10], row[11], row[12], row[13] = short / per_line, lines / per_token, sentences, curly


@numba.njit(nogil=True, cache=True)
def _words(hashes, offsets, wanted, table):
    """Which stop words there are, how often lorem stands before ipsum, and the shares of runs of 2 to 10 words."""
    longest = (offsets[1:] - offsets[:-1]).max() if len(table) else 0
    keys, counts = np.empty(room(longest), np.uint64), np.empty(room(longest), np.int32)
    runs, places = np.empty(longest + 1, np.int64), np.empty(longest, np.int64)
    for text in range(len(table)):
        words, row = hashes[offsets[text] : offsets[text + 1]], table[text]
        number, found = len(words), 0
        for place in range(number):
            for stop in range(len(STOP_WORDS)):
                found |= (words[place] == wanted[stop]) << stop
            row[1] += place > 0 and words[place] == wanted[-1] and words[place - 1] == wanted[-2]
            runs[place], places[place] = words[place], place
        for stop in range(len(STOP_WORDS)):
            row[0] += found >> stop & 1
        # runs: a number for the run of size - 1 words from each word on; -1 where it stands once. Those left: places.
        runs[number], left = -1, number
        for size in range(2, 11):
            bits = np.uint64(room(left) - 1)
            counts[: bits + np.uint64(1)] = 0
            best, covered, until, count = 0, 0, 0, 0
            for place in places[:left]:
                if runs[place + 1] < 0:
                    runs[place] = -1
                    continue
                key = np.uint64(runs[place]) << np.uint64(32) | np.uint64(runs[place + 1])
                slot = key * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32) & bits
                while counts[slot] > 0 and keys[slot] != key:
                    slot = (slot + np.uint64(1)) & bits
                keys[slot] = key
                counts[slot] += 1
                if counts[slot] > 1:
                    covered += place + size - max(place, until)
                    until = place + size
                runs[place], places[count] = slot, place
                count += 1
            left = 0
            for place in places[:count]:
                if counts[runs[place]] > 1:
                    best = max(best, counts[runs[place]])
                    places[left] = place
                    left += 1
                else:
                    runs[place] = -1
            row[size] = (min(number, best * size) if size <= 4 else covered) / max(1, number)
