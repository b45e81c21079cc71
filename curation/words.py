"""Text as comparable words: one normal form for duplicates, leaks and counts, and the hash of every word.

The words are found by one compiled pass over the UTF-8 bytes of an Arrow column, which folds ASCII on the way; other
lines are folded by Python first. A hash has 32 bits: one pair of different words in 4 billion is taken for equal.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

import functools
import hashlib
import importlib
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if "scipy.linalg" not in sys.modules:
    # To learn whether it may use BLAS, which nothing here does, numba would import all of it: 0.2 s of each start.
    sys.modules["scipy.linalg"] = None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules["scipy.linalg"]

# Scripts written without spaces: every character counts as a word.
SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
LETTER = r"[\p{L}\p{M}\p{N}]"
# An operator behind a number is a word of its own, or "12 + 7" and "12 - 7" would read alike.
OPERATORS = {
    "+": "plus",
    "-\u2212": "minus",
    "*\u00d7": "times",
    "/\u00f7": "over",
    "^": "power",
    "<": "below",
    ">": "above",
}
PART, IN_WORD, ALONE, OPERATOR = 0, 1, 2, 3  # what a character is; an operator: OPERATOR plus its place in OPERATORS
SPACES = (32, *range(9, 14), *range(28, 32), 0x85, 0x1680, 0x2028, 0x2029)  # once folded
PRIME, BASIS = 0x100000001B3, 0xCBF29CE484222325  # FNV-1a, 64 bits (Fowler, Noll, Vo 1991)


@dataclass(frozen=True)
class Words:
    """32-bit hashes of the words of n texts, in order; those of text i stand at offsets[i] up to offsets[i + 1]."""

    hashes: np.ndarray
    offsets: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Number of words of each text, shape (n,)."""
        return np.diff(self.offsets)

    def of(self, text: int) -> np.ndarray:
        """The hashes of the words of one text."""
        return self.hashes[self.offsets[text] : self.offsets[text + 1]]


def fold(text: str) -> str:
    """Compatibility-composed, case-folded text with single spaces; punctuation stays.

    Only for comparing, never for keeping: "STRASSE" and "straße", a ligature and its letters become equal.
    """
    return " ".join(_fold_characters(text).split())


def _fold_characters(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _fold_lines(text: str) -> str:
    lines, data = text.split("\n"), np.frombuffer(text.encode(), np.uint8)
    foreign = np.searchsorted(np.flatnonzero(data == 10), np.flatnonzero(data > 127))
    for number in np.unique(foreign).tolist():
        lines[number] = _fold_characters(lines[number])
    return "\n".join(lines)


def _folded(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes and offsets of a column, with the lines folded that are not ASCII."""
    data, offsets = text_buffers(texts)
    filled = np.flatnonzero(np.diff(offsets))
    highest = np.maximum.reduceat(data[: offsets[-1]], offsets[:-1][filled]) if len(filled) else filled
    if (highest > 127).any():
        foreign = np.zeros(len(texts), np.bool_)
        foreign[filled] = highest > 127
        foreign = pa.BooleanArray.from_buffers(
            pa.bool_(), len(texts), [None, pa.py_buffer(np.packbits(foreign, bitorder="little"))]
        )
        changed = text_column(map(_fold_lines, texts.filter(foreign).to_pylist()))
        data, offsets = text_buffers(pc.replace_with_mask(texts, foreign, changed))
    return data, offsets


def text_column(texts: Iterable[str]) -> pa.Array:
    """A column of large_string. `pa.array` would import pandas to ask whether it was given a Series of it."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def text_buffers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a column of large_string and, shape (n + 1,), where each text begins in them; nothing is copied."""
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets or bytes(8), np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data or b"", np.uint8), places


def split_words(texts: Any) -> Words:
    """The words of texts (an Arrow column, or any sequence of str).

    A word is a run of letters, marks and digits of the folded text; punctuation parts words. Beyond the Basic
    Multilingual Plane ideographs stand alone, pictographs part words, and everything else is a letter.
    """
    column = texts if isinstance(texts, pa.Array) else text_column(texts)
    column = column.cast(pa.large_string())
    data, offsets = _folded(column.fill_null("") if column.null_count else column)
    hashes = np.empty(int(offsets[-1] - offsets[0]) + 1, np.uint64)  # what is not filled costs no memory
    ends = np.zeros(len(offsets), np.int64)
    count = _hash_words(data, offsets, character_classes(), _OPERATOR_HASHES, hashes, ends)
    return Words(_short(hashes[:count]), ends)


def digest(text: str, words: np.ndarray) -> bytes:
    """A hash that texts share when they are equal up to case, Unicode form and spacing; `words` are its word hashes."""
    hashed = hashlib.blake2b(words.tobytes(), digest_size=16)
    hashed.update(text.casefold().encode().translate(None, b"\t\n\v\f\r "))
    return hashed.digest()


def normal_form(text: str) -> str:
    """The words of one text, parted by single spaces: what split_words hashes, to be read."""
    column = pa.array([fold(text)])
    for signs, word in OPERATORS.items():
        column = pc.replace_substring_regex(column, rf"(\d[\s)]*)[\{signs}]", rf"\1 {word} ")
    column = pc.replace_substring_regex(column, f"({SPACELESS})", r" \1 ")
    return " ".join(pc.replace_substring_regex(column, r"[^\p{L}\p{M}\p{N}]+", " ")[0].as_py().split())


def word_hash(word: str) -> int:
    """The hash of one word of normal form, as split_words gives it."""
    return int(_short(np.array([_fnv(word)], np.uint64))[0])


def _fnv(word: str) -> int:
    value = BASIS
    for character in word:
        value = (value ^ ord(character)) * PRIME % 2**64
    return value


@functools.cache
def character_classes() -> np.ndarray:
    """What each character of the Basic Multilingual Plane is, shape (65536,), uint8."""
    plane = [chr(code) if not 0xD800 <= code < 0xE000 else " " for code in range(2**16)]
    characters = text_column(plane)
    letters, spaceless = (
        np.unpackbits(
            np.frombuffer(pc.match_substring_regex(characters, kind).buffers()[1], np.uint8), bitorder="little"
        )
        for kind in (LETTER, SPACELESS)
    )
    classes = np.where(letters, np.where(spaceless, ALONE, IN_WORD), PART).astype(np.uint8)
    for number, signs in enumerate(OPERATORS):
        classes[[ord(sign) for sign in signs]] = OPERATOR + number
    return classes


@numba.njit(inline="always")
def mix(value):
    """Spread 64-bit integers evenly over all 64 bits (the finaliser of MurmurHash3); for numbers and arrays."""
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@numba.njit(nogil=True, cache=True)
def _short(values):
    short = np.empty(len(values), np.uint32)
    for place in range(len(values)):
        short[place] = np.uint32(mix(values[place]) >> np.uint64(32))
    return short


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
    """What a character is: PART, IN_WORD, ALONE, or OPERATOR and its number."""
    if code < 0x10000:
        return classes[code]
    if 0x20000 <= code < 0x40000:
        return np.uint8(ALONE)
    return np.uint8(PART if 0x1F000 <= code < 0x20000 or code >= 0xE0000 else IN_WORD)


@numba.njit(nogil=True, cache=True)
def _hash_words(data, offsets, classes, operator_hashes, hashes, ends):
    lower, plain, before_number = np.zeros(256, np.uint8), np.zeros(256, np.bool_), np.zeros(256, np.bool_)
    for code in range(128):
        plain[code] = classes[code] <= IN_WORD
        before_number[code] = code in SPACES or code == 41
        if classes[code] == IN_WORD:
            lower[code] = code + 32 if 65 <= code <= 90 else code
    basis, prime = np.uint64(BASIS), np.uint64(PRIME)
    count = 0
    for text in range(len(offsets) - 1):
        place, end = offsets[text], offsets[text + 1]
        word, inside, number = basis, False, False  # number: white space and ) aside, a digit stands before
        while place < end:
            byte = data[place]
            if plain[byte]:
                # Without a branch on where a word ends, which no processor predicts: its hash is written all the time.
                letter = lower[byte]
                within = letter != 0
                hashes[count] = word
                count += inside and not within
                chosen = np.uint64(0) - np.uint64(within)
                word = (((word ^ np.uint64(letter)) * prime) & chosen) | (basis & ~chosen)
                inside = within
                number = (48 <= byte <= 57) or (number and before_number[byte])
                place += 1
                continue
            code, width = np.uint32(byte), 1
            if byte >= 128:
                code, width = decode(data, place)
            kind = class_of(code, classes)
            if kind == IN_WORD:
                word, inside = (word ^ np.uint64(code)) * prime, True
            elif inside:
                hashes[count] = word
                count += 1
                word, inside = basis, False
            if kind == ALONE:
                hashes[count] = (basis ^ np.uint64(code)) * prime
                count += 1
            elif kind >= OPERATOR and number:
                hashes[count] = operator_hashes[kind - OPERATOR]
                count += 1
            if not (code in SPACES or code == 41):
                number = 48 <= code <= 57
            place += width
        if inside:
            hashes[count] = word
            count += 1
        ends[text + 1] = count
    return count


_OPERATOR_HASHES = np.array([_fnv(word) for word in OPERATORS.values()], np.uint64)
