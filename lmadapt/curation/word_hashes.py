"""Text as comparable words: one normal form for duplicates, leaks and counts, and the hash of every word.

The words are found by one compiled pass over the UTF-8 bytes of an Arrow column, which folds ASCII on the way; other
lines are folded by Python first. A hash has 32 bits: one pair of different words in 4 billion is taken for equal.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

import functools
import importlib
import re
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# To learn whether it may use them, which nothing here does, numba would import all of BLAS and cffi: 0.2 s a start.
for _module, _needed_by in (
    ("scipy.linalg", "numba.np.arraymath"),
    ("cffi", "numba.core.typing.cffi_utils"),
):
    if _module not in sys.modules:
        sys.modules[_module] = None
        try:
            importlib.import_module(_needed_by)
        finally:
            del sys.modules[_module]

# Scripts written without spaces: every character counts as a word.
SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
LETTER = r"[\p{L}\p{M}\p{N}]"
# An operator behind a number is a word of its own, or "12 + 7" and "12 - 7" would read alike.
OPERATORS = {
    "+": "plus", "-\u2212": "minus", "*\u00d7": "times", "/\u00f7": "over", "^": "power", "<": "below", ">": "above",
}  # fmt: skip
PART, IN_WORD, ALONE, OPERATOR = (
    0,
    1,
    2,
    3,
)  # what a character is; an operator: OPERATOR plus its place in OPERATORS
SLOW, BLOCK = (
    255,
    1024,
)  # mark of a byte that is not letter, digit or separator of ASCII; bytes hashed at a time
_LOWER = np.array(
    [SLOW if chr(n) in "\t\n\v\f\r " else n + 32 * (65 <= n <= 90) for n in range(256)], np.uint8
)
FOREIGN = re.compile(r"[^\x00-\x7f]+")
LONGEST_CACHED = 32  # bytes
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


@functools.lru_cache(2**14)
def _fold_run(run: bytes) -> bytes:
    return _fold_characters(run.decode()).encode()


def _folded(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes and offsets of a column, with all folded that is not ASCII."""
    data, offsets = text_buffers(texts)
    if not len(foreign := _foreign(data, offsets)):
        return data, offsets
    starts, ends = _loose_runs(data, offsets[foreign], offsets[foreign + 1], settled_characters())
    behind, last = int(offsets[0]), int(offsets[-1])
    whole, growth = data.data, [-behind]
    pieces: list[memoryview | bytes] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        run = whole[start:end].tobytes()
        folded = (_fold_run if len(run) <= LONGEST_CACHED else _fold_run.__wrapped__)(run)
        pieces += [whole[behind:start], folded]
        growth.append(len(folded) - len(run))
        behind = end
    data = np.frombuffer(b"".join([*pieces, whole[behind:last]]), np.uint8)
    return data, offsets + np.cumsum(growth)[np.searchsorted(ends, offsets, side="right")]


def _foreign(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Which texts are not ASCII."""
    filled = np.flatnonzero(np.diff(offsets))
    highest = (
        np.maximum.reduceat(data[: offsets[-1]], offsets[:-1][filled]) if len(filled) else filled
    )
    return filled[highest > 127]


@functools.cache
def settled_characters() -> np.ndarray:
    """Whether folding leaves a character of the Basic Multilingual Plane as it is, whatever it stands between.

    Marks and jamo do not: they change places, or become one with what is before them. Shape (65536,), bool.
    """
    settled: np.ndarray = np.ones(2**16, np.bool_)
    for start, end in (
        (0x80, 0x3400),
        (0xA000, 0xAC00),
        (0xF900, 0x10000),
    ):  # ideographs, syllables are between
        characters = [chr(code) for code in range(start, end)]
        folded = _fold_characters("\n".join(characters)).split("\n")
        pairs = zip(characters, folded, strict=True)
        settled[start:end] = [
            one == other and unicodedata.category(one)[0] != "M" for one, other in pairs
        ]
    settled[0x1100:0x1200] = False
    return settled


def text_column(texts: Iterable[str]) -> pa.Array:
    """A column of large_string. `pa.array` would import pandas to ask whether it was given a Series of it."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(
        len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))
    )


def text_buffers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a column of large_string and, shape (n + 1,), where each text begins in them; nothing is copied."""
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets or bytes(8), np.int64)[
        texts.offset : texts.offset + len(texts) + 1
    ]
    return np.frombuffer(data or b"", np.uint8), places


def split_words(texts: Any) -> Words:
    """The words of texts (an Arrow column, or any sequence of str).

    A word is a run of letters, marks and digits of the folded text; punctuation parts words. Beyond the Basic
    Multilingual Plane ideographs stand alone, pictographs part words, and everything else is a letter.
    """
    column = texts if isinstance(texts, pa.Array) else text_column(texts)
    column = column.cast(pa.large_string())
    data, offsets = _folded(column.fill_null("") if column.null_count else column)
    hashes = np.empty(
        int(offsets[-1] - offsets[0]) + 1, np.uint32
    )  # what is not filled costs no memory
    ends = np.zeros(len(offsets), np.int64)
    count = _hash_words(data, offsets, character_classes(), _OPERATOR_HASHES, hashes, ends)
    return Words(hashes[:count], ends)


def digests(texts: pa.Array, words: Words) -> list[bytes]:
    """A hash of each text that texts share when they are equal up to case, Unicode form and spacing.

    texts: a column of large_string; `words` are those of the same texts.
    """
    (data, offsets), found = text_buffers(texts), np.empty((len(texts), 2), np.uint64)
    _digests(data, offsets, np.arange(len(texts)), words.hashes, words.offsets, found)
    foreign = _foreign(data, offsets)
    folded = (
        FOREIGN.sub(lambda run: run[0].casefold(), texts[number].as_py())
        for number in foreign.tolist()
    )
    data, offsets = text_buffers(text_column(folded))
    _digests(data, offsets, foreign, words.hashes, words.offsets, found)
    return [digest.tobytes() for digest in found]


@functools.lru_cache(1000)
def normal_form(text: str) -> str:
    """The words of one text, parted by single spaces: what split_words hashes, to be read."""
    folded = fold(text)
    for signs, word in OPERATORS.items():
        folded = re.sub(rf"(\d[\s)]*)[\{signs}]", rf"\1 {word} ", folded, flags=re.ASCII)
    if folded.isascii():  # to compile the expressions below takes milliseconds
        return " ".join(re.findall("[a-z0-9]+", folded))
    column = text_column([folded])
    column = pc.replace_substring_regex(column, f"({SPACELESS})", r" \1 ")
    return " ".join(
        pc.replace_substring_regex(column, r"[^\p{L}\p{M}\p{N}]+", " ")[0].as_py().split()
    )


def word_hash(word: str) -> int:
    """The hash of one word of normal form, as split_words gives it."""
    return int(mix.py_func(np.array([_fnv(word)], np.uint64))[0] >> np.uint64(32))


def _fnv(word: str) -> int:
    value = BASIS
    for character in word:
        value = (value ^ ord(character)) * PRIME % 2**64
    return value


@functools.cache
def character_classes() -> np.ndarray:
    """What each character of the Basic Multilingual Plane is, shape (65536,), uint8."""
    plane = np.arange(2**16, dtype="<u2")
    plane[0xD800:0xE000] = 32
    ends = np.cumsum(1 + (plane >= 0x80) + (plane >= 0x800), dtype=np.int64)
    offsets, data = np.append(np.int64(0), ends), plane.tobytes().decode("utf-16-le").encode()
    characters = pa.LargeStringArray.from_buffers(
        len(plane), pa.py_buffer(offsets), pa.py_buffer(data)
    )
    bits = [pc.match_substring_regex(characters, kind).buffers()[1] for kind in (LETTER, SPACELESS)]
    letters, spaceless = (
        np.unpackbits(np.frombuffer(one, np.uint8), bitorder="little") for one in bits
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
def _digests(data, offsets, numbers, hashes, bounds, found):
    kept = np.empty((offsets[1:] - offsets[:-1]).max() + 8 if len(numbers) else 0, np.uint8)
    for text, number in enumerate(numbers):
        count, one, two = 0, np.uint64(BASIS), np.uint64(PRIME)
        for place in range(offsets[text], offsets[text + 1]):
            kept[np.uint64(count)] = _LOWER[data[np.uint64(place)]]
            count += kept[np.uint64(count)] != SLOW
        kept[count : count + 8] = 0
        own = hashes[bounds[number] : bounds[number + 1]].astype(np.uint64)
        for value in np.concatenate((kept[: count + 7 & ~7].view(np.uint64), own)):
            one = (one ^ value) * np.uint64(0x9E3779B97F4A7C15)
            two = (two ^ value) * np.uint64(0xC2B2AE3D27D4EB4F)
            one, two = one ^ one >> np.uint64(32), two ^ two >> np.uint64(29)
        found[number, 0], found[number, 1] = mix(one), mix(two)


@numba.njit(nogil=True, cache=True)
def _loose_runs(data, begins, ends, settled):
    """Starts and ends of the runs of characters outside ASCII, of some texts, of which one is not settled.

    An ASCII character before the run belongs to it: with none before itself does ASCII ever become one character.
    """
    most, count = (
        (ends - begins).sum() // 2,
        0,
    )  # bytes of the smallest run; what is not filled costs no memory
    firsts, lasts = np.empty(most, np.int64), np.empty(most, np.int64)
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
    """Whether, white space and ) aside, a digit stands before a place of a text that begins at `start`."""
    while place > start:
        place -= 1
        if not 128 <= data[place] < 192:  # a character begins
            code = np.uint32(data[place]) if data[place] < 128 else decode(data, place)[0]
            if not (code in SPACES or code == 41):
                return 48 <= code <= 57
    return False


@numba.njit(nogil=True, cache=True)
def _hash_words(data, offsets, classes, operator_hashes, hashes, ends):  # noqa: PLR0912 - one pass over the bytes
    lower = np.full(256, SLOW, np.uint8)
    for code in range(128):
        if classes[code] <= IN_WORD:
            lower[code] = (
                (code + 32 if 65 <= code <= 90 else code) if classes[code] == IN_WORD else 0
            )
    basis, prime = np.uint64(BASIS), np.uint64(PRIME)
    block, count, total = np.empty(2 * BLOCK, np.uint64), 0, 0
    for text in range(len(offsets) - 1):
        place, start, end = offsets[text], offsets[text], offsets[text + 1]
        word, inside = basis, False
        while place < end:
            pause = min(end, place + BLOCK)
            while place < pause:
                letter = lower[
                    data[np.uint64(place)]
                ]  # an index without a sign need not be asked for it
                if letter != SLOW:
                    # Without a branch on where a word ends, which no processor predicts: its hash is always written.
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


_OPERATOR_HASHES = np.array([_fnv(word) for word in OPERATORS.values()], np.uint64)
