"""Text as comparable words: one normal form for duplicates, leaks and counts, and the hash of every word.

The words are found by one compiled pass over the UTF-8 bytes of an Arrow column, which folds characters on the way.
Only texts in which characters fold into several, or compose with their neighbours, are folded by Python first.
"""

import functools
import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Scripts written without spaces: every character counts as a word.
SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
LETTER = r"[\p{L}\p{M}\p{N}]"
# An operator behind a number is a word of its own, or "12 + 7" and "12 - 7" would read alike.
OPERATORS = {"+": "plus", "-\u2212": "minus", "*\u00d7": "times", "/\u00f7": "over", "^": "power", "<": "below", ">": "above"}
PART, IN_WORD, ALONE, OPERATOR = 0, 1, 2, 3  # what a character is; an operator: OPERATOR plus its place in OPERATORS
SPACES = (32, *range(9, 14), *range(28, 32), 0x85, 0x1680, 0x2028, 0x2029)  # once folded
PRIME, BASIS = 0x100000001B3, 0xCBF29CE484222325  # FNV-1a, 64 bits (Fowler, Noll, Vo 1991)


@dataclass(frozen=True)
class Words:
    """64-bit hashes of the words of n texts, in order; those of text i stand at offsets[i] up to offsets[i + 1]."""

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
    return "\n".join(line if line.isascii() else _fold_characters(line) for line in text.split("\n"))


def folded(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes and offsets of a column, texts with characters that do not fold one by one folded by Python."""
    data, offsets = text_buffers(texts)
    entangled = _entangled(data, offsets, _targets())
    if entangled.any():
        mask = pa.array(entangled)
        changed = pa.array(map(_fold_lines, texts.filter(mask).to_pylist()), pa.large_string())
        data, offsets = text_buffers(pc.replace_with_mask(texts.cast(pa.large_string()).fill_null(""), mask, changed))
    return data, offsets


def text_buffers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of an Arrow column of texts and, shape (n + 1,), where each begins in them; nothing is copied."""
    if texts.null_count:
        texts = texts.fill_null("")
    wide = pa.types.is_large_string(texts.type)
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int64 if wide else np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data or b"", np.uint8), places.astype(np.int64)


def split_words(texts: Any) -> Words:
    """The words of texts (an Arrow column, or any sequence of str).

    A word is a run of letters, marks and digits of the folded text; punctuation parts words. Beyond the Basic
    Multilingual Plane ideographs stand alone, pictographs part words, and everything else is a letter.
    """
    column = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    data, offsets = folded(column) if len(column) else (np.empty(0, np.uint8), np.zeros(1, np.int64))
    hashes = np.empty(int(offsets[-1] - offsets[0]) + 1, np.uint64)  # what is not filled costs no memory
    ends = np.zeros(len(offsets), np.int64)
    count = _hash_words(data, offsets, character_classes(), _targets(), _OPERATOR_HASHES, hashes, ends)
    return Words(hashes[:count].copy(), ends)


def digest(text: str, words: np.ndarray) -> bytes:
    """A hash that texts share when they are equal up to case, Unicode form and spacing; `words` are its word hashes."""
    hashed = hashlib.blake2b(words.tobytes(), digest_size=16)
    hashed.update((text.casefold() if text.isascii() else _fold_lines(text)).encode().translate(None, b"\t\n\v\f\r "))
    return hashed.digest()


def normal_form(text: str) -> str:
    """The words of one text, parted by single spaces: what split_words hashes, to be read."""
    column = pa.array([fold(text)])
    for signs, word in OPERATORS.items():
        column = pc.replace_substring_regex(column, rf"(\d[\s)]*)[\{signs}]", rf"\1 {word} ")
    column = pc.replace_substring_regex(column, f"({SPACELESS})", r" \1 ")
    return " ".join(pc.replace_substring_regex(column, rf"[^\p{{L}}\p{{M}}\p{{N}}]+", " ")[0].as_py().split())


def word_hash(word: str) -> int:
    """The hash of one word of normal form, as split_words gives it."""
    value = BASIS
    for character in word:
        value = (value ^ ord(character)) * PRIME % 2**64
    return int(mix(np.uint64(value)))


@functools.cache
def character_classes() -> np.ndarray:
    """What each character of the Basic Multilingual Plane is, shape (65536,), uint8."""
    plane = [chr(code) if not 0xD800 <= code < 0xE000 else " " for code in range(2**16)]
    characters = pa.array(plane)
    classes = np.where(pc.match_substring_regex(characters, LETTER), IN_WORD, PART).astype(np.uint8)
    classes[np.asarray(pc.match_substring_regex(characters, SPACELESS))] = ALONE
    for number, signs in enumerate(OPERATORS):
        classes[[ord(sign) for sign in signs]] = OPERATOR + number
    return classes


@functools.cache
def _targets() -> np.ndarray:
    """What each character of that plane folds into, shape (65536,), uint16; 0 where it takes a whole text to know."""
    targets = np.arange(2**16, dtype=np.uint16)
    for code in (*range(128, 0x3400), *range(0xA000, 0xAC00), *range(0xD7A4, 0xD800), *range(0xF900, 2**16)):
        text = _fold_characters(chr(code))
        joins = unicodedata.category(chr(code))[0] == "M" or 0x1100 <= code < 0x1200  # with what stands before
        text = "." if text == "..." else text  # the ellipsis: both part words
        targets[code] = ord(text) if len(text) == 1 and text < "\U00010000" and not joins else 0
    return targets


@numba.njit(inline="always")  # type: ignore[misc]
def mix(value):  # type: ignore[no-untyped-def]
    """Spread 64-bit integers evenly over all 64 bits (the finaliser of MurmurHash3); for numbers and arrays."""
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@numba.njit(inline="always")  # type: ignore[misc]
def decode(data, place):  # type: ignore[no-untyped-def]
    """Code point and width in bytes of the character at `place`, which is not ASCII."""
    first = np.uint32(data[place])
    if first < 0xE0:
        return (first & 31) << 6 | data[place + 1] & 63, 2
    if first < 0xF0:
        return (first & 15) << 12 | (data[place + 1] & 63) << 6 | data[place + 2] & 63, 3
    high = (first & 7) << 18 | (data[place + 1] & 63) << 12
    return high | (data[place + 2] & 63) << 6 | data[place + 3] & 63, 4


@numba.njit(nogil=True, cache=True)  # type: ignore[misc]
def _entangled(data, offsets, targets):  # type: ignore[no-untyped-def]
    """Whether a text has characters that cannot be folded one by one, shape (n,)."""
    found = np.zeros(len(offsets) - 1, np.bool_)
    for text in range(len(found)):
        place, end = offsets[text], offsets[text + 1]
        while place < end and not found[text]:
            if data[place] < 128:
                place += 1
                continue
            code, width = decode(data, place)
            if code < 0x10000:
                found[text] = targets[code] == 0
            else:
                found[text] = not (0x1F300 <= code < 0x1FB00 or 0x20000 <= code < 0x2F800 or code >= 0x30000)
            place += width
    return found


@numba.njit(inline="always")  # type: ignore[misc]
def class_of(code, classes):  # type: ignore[no-untyped-def]
    if code < 0x10000:
        return classes[code]
    if 0x20000 <= code < 0x40000:
        return np.uint8(ALONE)
    return np.uint8(PART if 0x1F000 <= code < 0x20000 or code >= 0xE0000 else IN_WORD)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc]
def _hash_words(data, offsets, classes, targets, operator_hashes, hashes, ends):  # type: ignore[no-untyped-def]
    lower = np.zeros(128, np.uint8)
    for code in range(128):
        if classes[code] == IN_WORD:
            lower[code] = code + 32 if 65 <= code <= 90 else code
    basis, prime = np.uint64(BASIS), np.uint64(PRIME)
    count = 0
    for text in range(len(offsets) - 1):
        place, end = offsets[text], offsets[text + 1]
        word, inside, number = basis, False, False  # number: white space and ) aside, a digit stands before
        while place < end:
            byte = data[place]
            if byte < 128 and lower[byte]:
                word, inside = (word ^ np.uint64(lower[byte])) * prime, True
                number = byte <= 57
                place += 1
                continue
            code, width = np.uint32(byte), 1
            if byte >= 128:
                code, width = decode(data, place)
                if code < 0x10000 and targets[code]:
                    code = np.uint32(targets[code])
            kind = class_of(code, classes)
            if kind == IN_WORD:
                word, inside = (word ^ np.uint64(code)) * prime, True
            elif inside:
                hashes[count] = mix(word)
                count += 1
                word, inside = basis, False
            if kind == ALONE:
                hashes[count] = mix((basis ^ np.uint64(code)) * prime)
                count += 1
            elif kind >= OPERATOR and number:
                hashes[count] = operator_hashes[kind - OPERATOR]
                count += 1
            if not (code in SPACES or code == 41):
                number = 48 <= code <= 57
            place += width
        if inside:
            hashes[count] = mix(word)
            count += 1
        ends[text + 1] = count
    return count


_OPERATOR_HASHES = np.array([word_hash(word) for word in OPERATORS.values()], np.uint64)
