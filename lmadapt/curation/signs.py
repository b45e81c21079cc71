"""Operators, currency signs and pictographs of short texts, by which equal words may differ.

Words decide what a near-duplicate is, and signs are none. In a long text that does no harm; in a
question such as "What is a && b?" one sign is the difference.
"""

import re
import unicodedata
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

SHORT = 64  # words; in a longer text, no few signs would bring the similarity below the limit
SHINGLE = 5  # words, as in near_duplicates
BULLET = re.compile(r"(?m)^[^\w\n]{1,3}[ \t]+")
# Marks of Markdown and of trade are no operators.
SIGNS = re.compile(
    r"&&?|\|\|?|!=|!(?=\w)|[=<>~^%\\]+|\++|(?<=[\s\d)])[*/]+(?=[\s\d(])|(?<![\w-])-(?=\d)"
    r"|(?<=\w)#|\$(?=\d)|[^\x00-\x7f\w\s]"
)
FIRST = re.compile(r"[&|!=<>~^%\\+*/#$\-]|[^\x00-\x7f]")  # of a sign
# What RE2 finds in each text that has a sign, and in few others.
MAYBE = r"[&|=<>~^%\\+$#\p{S}]|!\S|[\s\d)][*/]|-\d"
LEFT_OUT = "\u00a9\u00ae\u2122\u00b4\u00a8\u02dc"


def find_signs(texts: pa.Array) -> dict[int, str]:
    """The signs of each text that has some, by its index in a column of text."""
    places = pc.indices_nonzero(pc.match_substring_regex(texts, MAYBE)).to_pylist()
    return {place: signs_of(texts[place].as_py()) for place in places}


def signs_of(text: str) -> str:
    """The signs of a text in order of their code points, a space after each; "" for most texts."""
    bare, found, end = BULLET.sub("", text), [], 0
    for start in FIRST.finditer(bare):  # a set of characters is searched for ten times faster
        sign = SIGNS.match(bare, start.start()) if start.start() >= end else None
        if sign:
            found.append(sign[0])
            end = sign.end()
    return "".join(f"{sign} " for sign in sorted(map(_normal, found)) if sign and _counts(sign))


def _normal(sign: str) -> str:
    return "-" if sign == "\u2212" else sign


def _counts(sign: str) -> bool:
    return sign < "\x80" or (unicodedata.category(sign)[0] == "S" and sign not in LEFT_OUT)


def with_signs(jaccard: float, words: int, one: str, other: str) -> float:
    """The similarity of two texts if each sign of theirs counted as a word does.

    jaccard: of their shingles; words: of the shorter text; one, other: as `signs_of` gives them.
    """
    if one == other:
        return jaccard
    here, there = Counter(one.split(" ")), Counter(other.split(" "))
    changed = SHINGLE * max((here - there).total(), (there - here).total())
    shingles = max(words - SHINGLE + 1, 1)
    return jaccard * max(shingles - changed, 0) / (shingles + changed)
