"""Characters of UTF-8 text, and what kind each one is."""

# mypy: disable-error-code="no-untyped-def"

import numba
import numpy as np

# Kinds of character. An operator's kind is OPERATOR plus its index in word_hashes.OPERATORS.
PART, IN_WORD, ALONE, OPERATOR = 0, 1, 2, 3


@numba.njit(inline="always")
def decode(data, place):
    """Code point and width in bytes of the character at `place`, which is not ASCII."""
    first = np.uint32(data[place])
    if first < 0xE0:
        return (first & 31) << 6 | data[place + 1] & 63, 2
    if first < 0xF0:
        return (first & 15) << 12 | (data[place + 1] & 63) << 6 | data[place + 2] & 63, 3
    high = (first & 7) << 18 | (data[place + 1] & 63) << 12
    return high | (data[place + 2] & 63) << 6 | data[place + 3] & 63, 4


@numba.njit(inline="always")
def class_of(code, classes):
    """Kind of a character: PART, IN_WORD, ALONE, or OPERATOR plus its index.

    `classes` holds the kinds of the Basic Multilingual Plane, shape (65536,).
    """
    if code < 0x10000:
        return classes[code]
    if 0x20000 <= code < 0x40000:
        return np.uint8(ALONE)
    return np.uint8(PART if 0x1F000 <= code < 0x20000 or code >= 0xE0000 else IN_WORD)
