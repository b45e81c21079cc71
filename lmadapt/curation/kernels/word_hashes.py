"""Hashes of words, digests of texts, and runs of characters that Python must fold."""

# mypy: disable-error-code="no-untyped-def"

import numba
import numpy as np

from lmadapt.curation.kernels.characters import ALONE, IN_WORD, OPERATOR, class_of, decode
from lmadapt.curation.kernels.hashing import BASIS, GOLDEN, PRIME, mix

SLOW = 255  # marks a byte that is neither a letter, a digit nor a separator of ASCII
BLOCK = 1024  # bytes hashed at a time
SPACES = (32, *range(9, 14), *range(28, 32), 0x85, 0x1680, 0x2028, 0x2029)  # of folded text
CLOSING_BRACKET = 41
# A byte as a digest sees it: letters in lower case, white space left out (SLOW).
_LOWER = np.array(
    [SLOW if chr(n) in "\t\n\v\f\r " else n + 32 * (65 <= n <= 90) for n in range(256)], np.uint8
)


@numba.njit(nogil=True, cache=True)
def digest_texts(data, offsets, numbers, hashes, bounds, found):
    """Write to found[number] two 64-bit hashes of each text, without white space and case.

    data, offsets: the texts, one for each of `numbers`. The hashes of the words of text `number`
    are hashes[bounds[number] : bounds[number + 1]].
    """
    kept = np.empty((offsets[1:] - offsets[:-1]).max() + 8 if len(numbers) else 0, np.uint8)
    for text, number in enumerate(numbers):
        count, one, two = 0, np.uint64(BASIS), np.uint64(PRIME)
        for place in range(offsets[text], offsets[text + 1]):
            kept[np.uint64(count)] = _LOWER[data[np.uint64(place)]]
            count += kept[np.uint64(count)] != SLOW
        kept[count : count + 8] = 0
        own = hashes[bounds[number] : bounds[number + 1]].astype(np.uint64)
        for value in np.concatenate((kept[: count + 7 & ~7].view(np.uint64), own)):
            one = (one ^ value) * GOLDEN
            two = (two ^ value) * np.uint64(0xC2B2AE3D27D4EB4F)
            one, two = one ^ one >> np.uint64(32), two ^ two >> np.uint64(29)
        found[number, 0], found[number, 1] = mix(one), mix(two)


@numba.njit(nogil=True, cache=True)
def loose_runs(data, begins, ends, settled):
    """Starts and ends of the runs of characters outside ASCII that have one that is not settled.

    The ASCII character before a run belongs to it: two ASCII characters never become one.
    """
    most = (ends - begins).sum() // 2  # a run has 2 bytes or more; unused room costs no memory
    firsts, lasts = np.empty(most, np.int64), np.empty(most, np.int64)
    count = 0
    for text in range(len(begins)):
        place = begins[text]
        while place < ends[text]:
            if data[np.uint64(place)] < 128:
                place += 1
                continue
            start, loose = place, False
            while place < ends[text] and data[place] >= 128:
                code, width = decode(data, place)
                loose |= code >= 0x10000 or not settled[code]
                place += width
            if loose:
                firsts[count], lasts[count] = max(start - 1, begins[text]), place
                count += 1
    return firsts[:count], lasts[:count]


@numba.njit(inline="always")
def _behind_number(data, start, place):
    """Whether a digit stands before `place` in a text that starts at `start`.

    White space and closing brackets between them do not matter.
    """
    while place > start:
        place -= 1
        if not 128 <= data[place] < 192:  # the first byte of a character
            code = np.uint32(data[place]) if data[place] < 128 else decode(data, place)[0]
            if not (code in SPACES or code == CLOSING_BRACKET):
                return 48 <= code <= 57
    return False


@numba.njit(inline="always")
def _lower_letters(classes):
    """What each byte is: a letter or digit in lower case, 0 for a separator, or SLOW."""
    lower = np.full(256, SLOW, np.uint8)
    for code in range(128):
        if classes[code] == IN_WORD:
            lower[code] = code + 32 if 65 <= code <= 90 else code
        elif classes[code] < IN_WORD:
            lower[code] = 0
    return lower


@numba.njit(nogil=True, cache=True)
def hash_words(data, offsets, classes, operator_hashes, hashes, ends):
    """Write the hash of each word to `hashes`, the number of words up to text i to ends[i + 1].

    Returns the number of words. Words are hashed into blocks, so that mixing runs over many.
    """
    lower = _lower_letters(classes)
    basis, prime = np.uint64(BASIS), np.uint64(PRIME)
    block, count, total = np.empty(2 * BLOCK, np.uint64), 0, 0
    for text in range(len(offsets) - 1):
        place, start, end = offsets[text], offsets[text], offsets[text + 1]
        word, inside = basis, False
        while place < end:
            pause = min(end, place + BLOCK)
            while place < pause:
                letter = lower[data[np.uint64(place)]]  # unsigned: saves the test for a negative
                if letter != SLOW:
                    # No branch on where a word ends, which processors mispredict:
                    # the hash is always written, and counts only where a word ends.
                    within = letter != 0
                    block[np.uint64(count)] = word
                    count += inside and not within
                    word = (word ^ np.uint64(letter)) * prime if within else basis
                    inside = within
                    place += 1
                    continue
                code, width = np.uint32(data[place]), 1
                if code >= 128:
                    code, width = decode(data, place)
                kind = class_of(code, classes)
                if kind == IN_WORD:
                    word, inside = (word ^ np.uint64(code)) * prime, True
                elif inside:
                    block[count] = word
                    count += 1
                    word, inside = basis, False
                if kind == ALONE:
                    block[count] = (basis ^ np.uint64(code)) * prime
                    count += 1
                elif kind >= OPERATOR and _behind_number(data, start, place):
                    block[count] = operator_hashes[kind - OPERATOR]
                    count += 1
                place += width
            if place >= end and inside:
                block[count] = word
                count += 1
            for one in range(count):
                hashes[total + one] = np.uint32(mix(block[one]) >> np.uint64(32))
            total, count = total + count, 0
        ends[text + 1] = total
    return total
