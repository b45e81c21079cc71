"""Text as comparable words: one normal form for duplicates, leaks and counts, and a hash a word.

One compiled pass over the UTF-8 bytes of an Arrow column finds the words, and folds ASCII on the
way; Python folds other characters first. A hash has 32 bits: about one pair of different words
in 4 billion counts as equal.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmadapt.curation.kernels.characters import ALONE, IN_WORD, OPERATOR, PART
from lmadapt.curation.kernels.hashing import BASIS, PRIME, mix
from lmadapt.curation.kernels.word_hashes import digest_texts, hash_words, loose_runs
from lmadapt.sources.answer_texts import INVISIBLE

# Scripts written without spaces: every character counts as a word.
SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
LETTER = r"[\p{L}\p{M}\p{N}]"
# An operator after a number is a word of its own: otherwise "12 + 7" and "12 - 7" would be equal.
OPERATORS = {
    "+": "plus",
    "-\u2212": "minus",
    "*\u00d7": "times",
    "/\u00f7": "over",
    "^": "power",
    "<": "below",
    ">": "above",
}
FOREIGN = re.compile(r"[^\x00-\x7f]+")
LONGEST_CACHED = 32  # bytes


@dataclass(frozen=True)
class Words:
    """32-bit hashes of the words of n texts, in order.

    Those of text i are hashes[offsets[i] : offsets[i + 1]].
    """

    hashes: np.ndarray
    offsets: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Number of words of each text, shape (n,)."""
        return np.diff(self.offsets)

    def of(self, text: int) -> np.ndarray:
        """The hashes of the words of one text."""
        return self.hashes[self.offsets[text] : self.offsets[text + 1]]


@functools.lru_cache(2**14)
def fold(text: str) -> str:
    """Compatibility-composed, case-folded text with single spaces; punctuation stays.

    What shows nothing goes: soft hyphens, zero-width characters and other default-ignorables.

    Only for comparing, never for keeping: "STRASSE" and "straße" become equal, and so do a
    ligature and its letters.
    """
    return " ".join(_fold_characters(text).split())


def _fold_characters(text: str) -> str:
    seen = INVISIBLE.sub("", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())


@functools.lru_cache(2**14)
def _fold_run(run: bytes) -> bytes:
    return _fold_characters(run.decode()).encode()


def _folded(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes and offsets of a column in which all characters outside ASCII are folded."""
    data, offsets = text_buffers(texts)
    foreign = _foreign(data, offsets)
    if not len(foreign):
        return data, offsets
    starts, ends = loose_runs(data, offsets[foreign], offsets[foreign + 1], settled_characters())
    copied, last = int(offsets[0]), int(offsets[-1])
    whole, growth = data.data, [-copied]
    pieces: list[memoryview | bytes] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        run = whole[start:end].tobytes()
        fold_run = _fold_run if len(run) <= LONGEST_CACHED else _fold_run.__wrapped__
        folded = fold_run(run)
        pieces += [whole[copied:start], folded]
        growth.append(len(folded) - len(run))
        copied = end
    data = np.frombuffer(b"".join([*pieces, whole[copied:last]]), np.uint8)
    return data, offsets + np.cumsum(growth)[np.searchsorted(ends, offsets, side="right")]


def _foreign(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Indices of the texts that are not ASCII."""
    filled = np.flatnonzero(np.diff(offsets))
    if not len(filled):
        return filled
    highest = np.maximum.reduceat(data[: offsets[-1]], offsets[:-1][filled])
    return filled[highest > 127]


@functools.cache
def settled_characters() -> np.ndarray:
    """Whether folding leaves a character as it is, whatever its neighbours; shape (65536,), bool.

    It covers the Basic Multilingual Plane. Marks and jamo are not settled: they change places,
    or become one with the character before them.
    """
    settled: np.ndarray = np.ones(2**16, np.bool_)
    # The gaps are ideographs and Hangul syllables, which folding leaves as they are.
    for start, end in ((0x80, 0x3400), (0xA000, 0xAC00), (0xF900, 0x10000)):
        characters = [chr(code) for code in range(start, end)]
        folded = _fold_characters("\n".join(characters)).split("\n")
        pairs = zip(characters, folded, strict=True)
        settled[start:end] = [
            one == other and unicodedata.category(one)[0] != "M" for one, other in pairs
        ]
    settled[0x1100:0x1200] = False
    return settled


def text_column(texts: Iterable[str]) -> pa.Array:
    """A column of large_string. `pa.array` would do, but imports pandas to look for a Series."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(
        len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))
    )


def text_buffers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a column of large_string, and where each text starts in them, shape (n + 1,).

    Nothing is copied.
    """
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets or bytes(8), np.int64)
    places = places[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data or b"", np.uint8), places


def split_words(texts: pa.Array | Sequence[str]) -> Words:
    """The words of texts: an Arrow column, or any sequence of str.

    A word is a run of letters, marks and digits of the folded text; punctuation separates words.
    Beyond the Basic Multilingual Plane ideographs are words of their own, pictographs separate
    words, and everything else is a letter.
    """
    column = texts if isinstance(texts, pa.Array) else text_column(texts)
    column = column.cast(pa.large_string())
    data, offsets = _folded(column.fill_null("") if column.null_count else column)
    most = int(offsets[-1] - offsets[0]) + 1
    hashes = np.empty(most, np.uint32)  # entries that are never written take no memory
    ends = np.zeros(len(offsets), np.int64)
    count = hash_words(data, offsets, character_classes(), _operator_hashes(), hashes, ends)
    return Words(hashes[:count], ends)


def digests(texts: pa.Array, words: Words) -> list[bytes]:
    """A 16-byte hash of each text, equal for texts that differ in case, Unicode form or spacing.

    Characters that show nothing do not matter either.

    texts: a column of large_string; `words` are those of the same texts.
    """
    (data, offsets), found = text_buffers(texts), np.empty((len(texts), 2), np.uint64)
    digest_texts(data, offsets, np.arange(len(texts)), words.hashes, words.offsets, found)
    foreign = _foreign(data, offsets)
    folded = (FOREIGN.sub(_casefold_seen, texts[number].as_py()) for number in foreign.tolist())
    data, offsets = text_buffers(text_column(folded))
    digest_texts(data, offsets, foreign, words.hashes, words.offsets, found)
    return [digest.tobytes() for digest in found]


def _casefold_seen(run: re.Match[str]) -> str:
    return INVISIBLE.sub("", run[0]).casefold()


@functools.lru_cache(1000)
def normal_form(text: str) -> str:
    """The words of one text with single spaces between them: what split_words hashes, readable."""
    folded = fold(text)
    for signs, word in OPERATORS.items():
        folded = re.sub(rf"(\d[\s)]*)[\{signs}]", rf"\1 {word} ", folded, flags=re.ASCII)
    if folded.isascii():  # RE2 takes milliseconds to compile the expressions below
        return " ".join(re.findall("[a-z0-9]+", folded))
    column = text_column([folded])
    column = pc.replace_substring_regex(column, f"({SPACELESS})", r" \1 ")
    column = pc.replace_substring_regex(column, r"[^\p{L}\p{M}\p{N}]+", " ")
    return " ".join(column[0].as_py().split())


def word_hash(word: str) -> int:
    """The hash of one word of normal form, as split_words gives it."""
    return int(mix.py_func(np.array([_fnv(word)], np.uint64))[0] >> np.uint64(32))


def _fnv(word: str) -> int:
    value = BASIS
    for character in word:
        value = (value ^ ord(character)) * PRIME % 2**64
    return value


@functools.cache
def _operator_hashes() -> np.ndarray:
    return np.array([_fnv(word) for word in OPERATORS.values()], np.uint64)


@functools.cache
def character_classes() -> np.ndarray:
    """The kind of each character of the Basic Multilingual Plane, shape (65536,), uint8."""
    plane = np.arange(2**16, dtype="<u2")
    plane[0xD800:0xE000] = 32  # surrogates: half characters, which UTF-8 cannot hold
    widths = 1 + (plane >= 0x80) + (plane >= 0x800)
    offsets = np.append(np.int64(0), np.cumsum(widths, dtype=np.int64))
    data = plane.tobytes().decode("utf-16-le").encode()
    characters = pa.LargeStringArray.from_buffers(
        len(plane), pa.py_buffer(offsets), pa.py_buffer(data)
    )
    letters, spaceless = _matches(characters, LETTER), _matches(characters, SPACELESS)
    classes = np.full(2**16, PART, np.uint8)
    classes[letters] = IN_WORD
    classes[letters & spaceless] = ALONE
    for number, signs in enumerate(OPERATORS):
        classes[[ord(sign) for sign in signs]] = OPERATOR + number
    return classes


def _matches(characters: pa.Array, expression: str) -> np.ndarray:
    """Which of the characters match an expression, shape (n,), bool."""
    bits = pc.match_substring_regex(characters, expression).buffers()[1]
    found = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return found[: len(characters)].astype(np.bool_)
