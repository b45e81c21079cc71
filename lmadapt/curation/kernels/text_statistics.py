"""Counts of characters, lines, stop words and repeated runs of words in each text."""

# mypy: disable-error-code="no-untyped-def, assignment"

import numba
import numpy as np

from lmadapt.curation.kernels.characters import class_of, decode
from lmadapt.curation.kernels.hashing import GOLDEN, PRIME, find_slot, mix, table_size

# Gopher (Rae et al. 2021): an English text has at least two of these.
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
SHORT_LINE = 30  # characters: FineWeb
SMALLEST_RUN, LARGEST_RUN = 2, 10  # words: Gopher
LARGEST_TOP_RUN = 4  # words; of longer runs the words in repeated ones count: Gopher
SPACE, LETTER, DIGIT, WORD, SIGN = 1, 2, 4, 8, 16  # what a character is, as bits
LINE_FEED, FULL_STOP, ELLIPSIS, CURLY_BRACKET = 10, 46, 0x2026, 123
SYMBOLS = (35, ELLIPSIS)  # # and the ellipsis; three full stops count as one ellipsis
BULLETS = (42, 45, 0x2022)  # * - and the bullet
SENTENCE_ENDS = (33, FULL_STOP, 63, 0x3002)  # ! . ? and the ideographic full stop
LINE_ENDS = (33, 34, FULL_STOP, 63, 0x3002)  # the same, and a quotation mark

# A token is a run of characters without white space. A line counts when it has a letter or digit.
COUNTS = np.dtype(
    [
        (name, np.int64)
        for name in (
            "characters",
            "visible",  # characters other than white space
            "alphabetic",  # letters and white space
            "alphanumeric",  # letters, digits and white space
            "tokens",
            "lettered_tokens",  # with at least one letter
            "symbols",
            "curly_brackets",  # opening ones
            "sentences",
            "lines",
            "repeated_lines",  # equal to an earlier line of the text
            "repeated_characters",  # in those lines
            "bullet_lines",
            "ellipsis_lines",
            "punctuated_lines",
            "short_lines",
        )
    ]
)


@numba.njit(inline="always")
def _seen_before(seen, line):
    """Whether the hash table `seen` has the hash of a line; adds it."""
    slot = find_slot(seen, seen, np.uint64(1), line, line & np.uint64(len(seen) - 1))
    found = seen[slot] == line
    seen[slot] = line
    return found


@numba.njit(inline="always")
def _count_line(count, seen, line, length, first, last, before_last):
    """Count a line by its hash, its length and three of its characters."""
    count.lines += 1
    if _seen_before(seen, max(mix(line), np.uint64(1))):
        count.repeated_lines += 1
        count.repeated_characters += length
    count.bullet_lines += first in BULLETS
    count.ellipsis_lines += last == ELLIPSIS or (last == FULL_STOP and before_last == FULL_STOP)
    count.punctuated_lines += last in LINE_ENDS
    count.short_lines += length <= SHORT_LINE


@numba.njit(nogil=True, cache=True)
def count_characters(data, offsets, marks, counts):
    """Write the counts of each text to its row of `counts`, an array of COUNTS.

    marks: the bits of each character of the Basic Multilingual Plane, shape (65536,).
    """
    for text in range(len(counts)):
        place, end, count = offsets[text], offsets[text + 1], counts[text]
        line_feeds = np.count_nonzero(data[place:end] == LINE_FEED)
        seen = np.zeros(table_size(1 + line_feeds), np.uint64)
        visible = letters = digits = tokens = lettered = symbols = sentences = curly = 0
        wide = 0  # bytes of characters beyond their first one
        line, line_found, line_start = np.uint64(0), np.uint8(0), -1
        first, last, before_last = 0, 0, 0
        while place <= end:  # one token, and the white space or end of text after it
            start, narrow, found, code, width = place, wide, np.uint8(0), np.uint32(LINE_FEED), 1
            while place < end:
                code, width = np.uint32(data[np.uint64(place)]), 1
                if code >= 128:
                    code, width = decode(data, place)
                beyond = np.uint8((LETTER | WORD) * (code >= 0x10000 and class_of(code, marks) > 0))
                mark = marks[np.uint64(code)] if code < 0x10000 else beyond
                if mark & SPACE:
                    break
                found |= mark
                letters, digits = letters + (mark >> 1 & 1), digits + (mark >> 2 & 1)
                if mark & SIGN:
                    curly += code == CURLY_BRACKET
                    third_stop = code == last == before_last == FULL_STOP
                    symbols += code in SYMBOLS or third_stop
                if line_start < 0:
                    line_start, first = place - wide, code
                before_last, last = last, code
                line = (line ^ np.uint64(code)) * np.uint64(PRIME)
                wide += width - 1
                place += width
            visible += place - start - (wide - narrow)
            line_found |= found
            tokens += place > start
            lettered += found >> 1 & 1
            sentences += place > start and last in SENTENCE_ENDS
            if place >= end or code == LINE_FEED:  # the end of a text ends a line
                if line_found & WORD:
                    length = place - wide - line_start
                    _count_line(count, seen, line, length, first, last, before_last)
                line, line_found, line_start, before_last = np.uint64(0), np.uint8(0), -1, 0
            wide += (width - 1) * (place < end)
            place += width
        count.characters = end - offsets[text] - wide
        spaces = count.characters - visible
        count.visible, count.tokens, count.lettered_tokens = visible, tokens, lettered
        count.alphabetic, count.alphanumeric = letters + spaces, letters + spaces + digits
        count.symbols, count.curly_brackets, count.sentences = symbols, curly, sentences


@numba.njit(nogil=True, cache=True)
def count_words(hashes, offsets, stop_words, lorem, ipsum, found_stop_words, lorem_ipsum, runs):
    """Count the stop words a text has, how often lorem stands before ipsum, and repeated runs.

    Writes to found_stop_words[text] and lorem_ipsum[text], and to runs[text, size - SMALLEST_RUN]
    the share of a text's words in the most frequent run of `size` words, or in repeated runs of
    more than LARGEST_TOP_RUN words. stop_words: hashes of STOP_WORDS; lorem, ipsum: of those words.
    """
    longest = (offsets[1:] - offsets[:-1]).max() if len(runs) else 0
    keys = np.empty(table_size(longest), np.uint64)
    counts = np.empty(table_size(longest), np.int32)
    numbers, places = np.empty(longest + 1, np.int64), np.empty(longest, np.int64)
    for text in range(len(runs)):
        words, found = hashes[offsets[text] : offsets[text + 1]], 0
        for place in range(len(words)):
            for stop in range(len(STOP_WORDS)):
                found |= (words[place] == stop_words[stop]) << stop
            both = place > 0 and words[place] == ipsum and words[place - 1] == lorem
            lorem_ipsum[text] += both
        for stop in range(len(STOP_WORDS)):
            found_stop_words[text] += found >> stop & 1
        _measure_runs(words, runs[text], keys, counts, numbers, places)


@numba.njit(nogil=True, cache=True)
def _measure_runs(words, shares, keys, counts, numbers, places):
    """Write the share of each size of run to `shares`; the other arrays are room to work in.

    A run can only repeat where both runs in it that are one word shorter repeat. So each size
    looks at the places that the size before it left: `numbers[place]` is a number for the run
    that starts there, or -1 where that run stands once.
    """
    number = left = len(words)
    for place in range(number):
        numbers[place], places[place] = words[place], place
    numbers[number] = -1
    for size in range(SMALLEST_RUN, LARGEST_RUN + 1):
        bits = np.uint64(table_size(left) - 1)
        counts[: bits + np.uint64(1)] = 0
        table = keys[: bits + np.uint64(1)]
        best, covered, until, count = 0, 0, 0, 0
        for place in places[:left]:
            if numbers[place + 1] < 0:
                numbers[place] = -1
                continue
            key = np.uint64(numbers[place]) << np.uint64(32) | np.uint64(numbers[place + 1])
            slot = key * GOLDEN >> np.uint64(32) & bits
            slot = find_slot(table, counts, 1, key, slot)
            table[slot] = key
            counts[slot] += 1
            if counts[slot] > 1:
                covered += place + size - max(place, until)
                until = place + size
            numbers[place], places[count] = slot, place
            count += 1
        left = 0
        for place in places[:count]:
            if counts[numbers[place]] > 1:
                best = max(best, counts[numbers[place]])
                places[left] = place
                left += 1
            else:
                numbers[place] = -1
        repeated = min(number, best * size) if size <= LARGEST_TOP_RUN else covered
        shares[size - SMALLEST_RUN] = repeated / max(1, number)
