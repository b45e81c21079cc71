"""What can be counted in a text: the statistics that filters of web corpora put thresholds on.

A compiled pass over the bytes counts characters and lines; another over the words counts stop
words and repeated runs. A line counts when it has a letter or digit. Gopher measures the share of
characters in repeated runs; here it is the share of words.
"""

import functools

import numpy as np
import pyarrow as pa

from lmadapt.curation.kernels import text_statistics as kernel
from lmadapt.curation.kernels.characters import IN_WORD, OPERATOR, PART
from lmadapt.curation.word_hashes import Words, character_classes, text_buffers, word_hash

# By statistic: what is counted, and of what it is the share; both are fields of kernel.COUNTS.
SHARES = {
    "alphabetic_fraction": ("alphabetic", "characters"),
    "alphanumeric_fraction": ("alphanumeric", "characters"),
    "repeated_line_fraction": ("repeated_lines", "lines"),
    "repeated_line_character_fraction": ("repeated_characters", "characters"),
    "mean_word_characters": ("visible", "tokens"),
    "symbols_per_word": ("symbols", "tokens"),
    "alphabetic_word_fraction": ("lettered_tokens", "tokens"),
    "bullet_line_fraction": ("bullet_lines", "lines"),
    "ellipsis_line_fraction": ("ellipsis_lines", "lines"),
    "punctuated_line_fraction": ("punctuated_lines", "lines"),
    "short_line_fraction": ("short_lines", "lines"),
    "lines_per_word": ("lines", "tokens"),
}
CHARACTERS = (*SHARES, "sentences", "curly_brackets")
TOP_RUNS, REPEATED_RUNS = (2, 3, 4), (5, 6, 7, 8, 9, 10)  # words: Gopher, table A1
RUN_SHARES = {
    **{f"top_{size}gram_fraction": size for size in TOP_RUNS},
    **{f"repeated_{size}gram_fraction": size for size in REPEATED_RUNS},
}
WORDS = ("stop_words", "lorem_ipsum", *RUN_SHARES)


def measure(texts: pa.Array, words: Words, names: set[str]) -> dict[str, np.ndarray]:
    """The named statistics of n texts, each of shape (n,); `words` are those of the same texts."""
    measured = {"words": words.counts.astype(np.float64)}
    if names & {*CHARACTERS}:
        measured |= _character_statistics(texts)
    if names & {*WORDS}:
        measured |= _word_statistics(words)
    return measured


def _character_statistics(texts: pa.Array) -> dict[str, np.ndarray]:
    data, offsets = text_buffers(texts)
    counts = np.zeros(len(texts), kernel.COUNTS)
    kernel.count_characters(data, offsets, _marks(), counts)
    shares = {
        name: counts[part] / np.maximum(1, counts[whole]) for name, (part, whole) in SHARES.items()
    }
    return {
        **shares,
        "sentences": counts["sentences"].astype(np.float64),
        "curly_brackets": counts["curly_brackets"].astype(np.float64),
    }


def _word_statistics(words: Words) -> dict[str, np.ndarray]:
    number = len(words.counts)
    stop_words, lorem_ipsum = np.zeros(number), np.zeros(number)
    runs = np.zeros((number, kernel.LARGEST_RUN - kernel.SMALLEST_RUN + 1))
    kernel.count_words(
        words.hashes,
        words.offsets,
        np.array([word_hash(word) for word in kernel.STOP_WORDS], np.uint32),
        np.uint32(word_hash("lorem")),
        np.uint32(word_hash("ipsum")),
        stop_words,
        lorem_ipsum,
        runs,
    )
    shares = {name: runs[:, size - kernel.SMALLEST_RUN] for name, size in RUN_SHARES.items()}
    return {"stop_words": stop_words, "lorem_ipsum": lorem_ipsum, **shares}


@functools.cache
def _marks() -> np.ndarray:
    """The bits of each character of the Basic Multilingual Plane, shape (65536,), uint8."""
    classes, codes = character_classes(), np.arange(2**16)
    word, digit = (classes >= IN_WORD) & (classes < OPERATOR), (codes >= 48) & (codes <= 57)
    blank = (codes <= 32) | np.isin(codes, (0xA0, 0x3000)) | (codes >= 0x2000) & (codes <= 0x200A)
    sign = np.isin(codes, (35, kernel.FULL_STOP, kernel.CURLY_BRACKET, kernel.ELLIPSIS))
    marks = np.zeros(2**16, np.uint8)
    marks[blank & (classes == PART)] |= kernel.SPACE
    marks[word & ~digit] |= kernel.LETTER
    marks[digit] |= kernel.DIGIT
    marks[word] |= kernel.WORD
    marks[sign] |= kernel.SIGN
    return marks
