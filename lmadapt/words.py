"""Text as comparable words: one normal form for duplicates, leaks and counts, and hashes of every run of words."""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Scripts written without spaces: every character counts as a word.
SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
# An operator behind a number is a word of its own, or "12 + 7" and "12 - 7" would read alike.
OPERATORS = {
    r"\+": "plus",
    r"[-\x{2212}]": "minus",
    r"[*\x{00D7}]": "times",
    r"[/\x{00F7}]": "over",
    r"\^": "power",
    "<": "below",
    ">": "above",
}
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, thus invertible modulo 2**64
INVERSE = np.uint64(pow(int(BASE), -1, 2**64))


@dataclass(frozen=True)
class Words:
    """The words of n documents.

    `texts` are the documents in normal form, words parted by single spaces; `hashes` are 64-bit hashes of all
    words in order; the words of document i stand at `offsets[i]` up to `offsets[i + 1]`.
    """

    texts: list[str]
    hashes: np.ndarray
    offsets: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Number of words of each document, shape (n,)."""
        return np.diff(self.offsets)

    def windows(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Hash and document index of every run of `size` words, in order; no run crosses documents.

        The hashes are differences of prefix sums of a polynomial modulo 2**64 (Karp and Rabin 1987), so that the
        cost does not depend on `size`.
        """
        total = len(self.hashes)
        if total < size:
            return np.empty(0, np.uint64), np.empty(0, np.int64)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(self.hashes * _powers(BASE, total), dtype=np.uint64)])
        rolled = (sums[size:] - sums[:-size]) * _powers(INVERSE, total - size + 1)
        document = np.repeat(np.arange(len(self.texts)), self.counts)[: len(rolled)]
        inside = np.arange(len(rolled)) + size <= self.offsets[document + 1]
        return mix(rolled[inside] + np.uint64(size)), document[inside]


def fold(text: str) -> str:
    """Compatibility-composed, case-folded text with single spaces; punctuation stays.

    Only for comparing, never for keeping: "STRASSE" and "straße", a ligature and its letters become equal.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def split_words(texts: Sequence[str]) -> Words:
    """The words of texts: runs of letters, marks and digits of the folded text; punctuation parts words."""
    column = pa.array([fold(text) for text in texts], pa.large_string())
    for sign, word in OPERATORS.items():
        column = pc.replace_substring_regex(column, rf"(\d[\s)]*){sign}", rf"\1 {word} ")
    column = pc.replace_substring_regex(column, f"({SPACELESS})", r" \1 ")
    column = pc.replace_substring_regex(column, r"[^\p{L}\p{M}\p{N}]+", " ")
    column = pc.utf8_trim_whitespace(column)
    words = pc.split_pattern(pc.if_else(pc.equal(column, ""), None, column), " ")
    counts = pc.fill_null(pc.list_value_length(words), 0).to_numpy(zero_copy_only=False)
    return Words(column.to_pylist(), _hash_words(words.flatten()), np.concatenate([[0], np.cumsum(counts)]))


def mix(values: np.ndarray) -> np.ndarray:
    """Spread 64-bit integers evenly over all 64 bits (the finaliser of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    spread: np.ndarray = values ^ (values >> np.uint64(33))
    return spread


def _hash_words(words: Any) -> np.ndarray:
    distinct = words.dictionary_encode()
    digests = (hashlib.blake2b(word.encode(), digest_size=8).digest() for word in distinct.dictionary.to_pylist())
    hashes: np.ndarray = np.frombuffer(b"".join(digests), np.uint64)[distinct.indices.to_numpy()]
    return hashes


def _powers(base: np.uint64, count: int) -> np.ndarray:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    powers: np.ndarray = np.cumprod(factors, dtype=np.uint64)
    return powers
