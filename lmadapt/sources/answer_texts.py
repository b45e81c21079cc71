"""Words, numbers and sentences of answers, in any script."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

ARTICLES = {"a", "an", "the"}
# Scripts written without spaces, each character of which counts as a word, as in curation: Thai,
# Lao, Myanmar, Khmer, kana and ideographs.
SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
# What shows nothing: soft hyphen, zero-width characters, directions, variation selectors.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
SENTENCE_END = re.compile(
    "[.!?\u2026\u3002\uff01\uff1f\uff0e\uff61\u061f\u06d4\u0964\u0965]"
    "[\"'\u201d\u2019\u00bb)\\]\u300d\u300f\uff09]*$"
)
SIGNED = re.compile(r"(?<![^\W_])-(?=\d)")
NAME_SIGNS = re.compile(r"(?<=[^\W\d_])[+#]+(?!\w)")  # of C++ and C#
MINUS, KEPT_SIGNS = "\ue000", {"+": "\ue001", "#": "\ue002"}  # of the private use area
SPACES = " \u00a0\u2009\u202f"
NUMBER = re.compile(rf"(?:(?<![\w)\]])[-\u2212])?\d+(?:[.,'\u2019{SPACES}]\d+)*")
SPACED_THOUSANDS = re.compile(rf"(?<![\d.,'\u2019])\d{{1,3}}(?:[{SPACES}]\d{{3}})+(?:[.,]\d+)?$")


def fold(text: str) -> str:
    """The text for comparing: compatibility forms, case and invisible characters do not matter."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _visible(text)).casefold())


def normal_form(text: str, *, symbols: bool = False) -> str:
    """Folded words with single spaces, without punctuation and articles.

    The sign of a number stays, and so do the signs of "C++" and "C#". With `symbols`,
    mathematical and other symbols are words of their own. An article that stands alone is a word.
    """
    folded = fold(text).replace("\u2212", "-").replace("\u2010", "-")
    folded = SIGNED.sub(MINUS, folded)
    folded = NAME_SIGNS.sub(lambda run: "".join(map(KEPT_SIGNS.__getitem__, run[0])), folded)
    pieces = []
    for character in folded:
        kind = unicodedata.category(character)
        if kind[0] in "LMN" or kind in ("Pc", "Co"):
            pieces.append(character)
        elif symbols and kind in ("Sm", "So", "Sc"):
            pieces.append(f" {character} ")
        else:
            pieces.append(" ")
    found = "".join(pieces).split()
    return " ".join([word for word in found if word not in ARTICLES] or found[-1:])


def has_symbols(text: str) -> bool:
    """Whether `normal_form` may lose a symbol of the text without `symbols`."""
    return any(unicodedata.category(character) in ("Sm", "So", "Sc") for character in text)


def words(text: str) -> list[str]:
    """Runs of letters, marks and digits of the folded text; of spaceless scripts, characters."""
    kept = [one if unicodedata.category(one)[0] in "LMN" else " " for one in fold(text)]
    return space_characters("".join(kept)).split()


def ends_sentence(text: str) -> bool:
    """Whether the text ends in a full stop, question or exclamation mark of any script."""
    return SENTENCE_END.search(_visible(text).rstrip()) is not None


def loops(text: str) -> bool:
    """Whether less than half of the words are distinct; of pairs of characters without spaces."""
    found = words(text)
    if SPACELESS.search(text):
        found = [one + other for one, other in pairwise(found)]
    return len(set(found)) * 2 < len(found)


def last_number(text: str) -> set[float]:
    """The values that the last number of the text can mean; none without a number.

    A hyphen behind a word or a number is no sign. "3,14" is 3.14, or ends a list; "1,200" is 1200;
    "1 200" is 1200, or 200 behind another number.
    """
    found = NUMBER.findall(_visible(text).replace("\u066b", ".").replace("\u066c", ","))
    if not found:
        return set()
    sign = -1.0 if found[-1][0] in "-\u2212" else 1.0
    body = found[-1].lstrip("-\u2212")
    last = re.split(f"[{SPACES}]", body)[-1]
    values = {(sign if whole else 1.0) * value for value, whole in _readings(last, last == body)}
    spaced = SPACED_THOUSANDS.search(body)
    if spaced:
        joined = re.sub(f"[{SPACES}]", "", spaced[0]).replace(",", ".")
        values.add((sign if spaced[0] == body else 1.0) * float(joined))
    return values


def _readings(number: str, first: bool) -> list[tuple[float, bool]]:
    """Values of a number without spaces, and whether each starts where a sign would stand."""
    if re.fullmatch(r"[1-9]\d{0,2}(?:['\u2019]\d{3})+(?:\.\d+)?", number):
        return [(float(re.sub("['\u2019]", "", number)), first)]
    if re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", number):
        return [(float(number.replace(",", "")), first)]
    if re.fullmatch(r"[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})", number):
        return [(float(number.replace(".", "").replace(",", ".")), first)]
    # English: the last number once commas before three digits are gone.
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", number)
    ends = [*re.finditer(r"\d+(?:\.\d+)?", plain)]
    decimal = re.fullmatch(r"(\d+),(\d+)", number)
    if decimal and decimal[1] == "0":
        return [(float(f"0.{decimal[2]}"), first)]
    found = [(float(ends[-1][0]), first and len(ends) == 1)]
    if decimal:
        found.append((float(f"{decimal[1]}.{decimal[2]}"), first))
    return found


def bleu_settings(references: Sequence[str]) -> tuple[str, bool]:
    """The tokenizer of sacreBLEU for these references, and whether characters are words in them.

    Latin script is tokenised as WMT does ("13a"), other scripts by Unicode ("intl").
    """
    text = "".join(references)
    letters = [character for character in text if character.isalpha()]
    latin = all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return ("13a" if latin else "intl"), SPACELESS.search(text) is not None


def space_characters(text: str) -> str:
    """The text with spaces around characters of scripts that have none."""
    return SPACELESS.sub(r" \g<0> ", text)


def named_at(label: str, answer: str) -> int | None:
    """Where an answer first names a label as whole words, in any case; None if it does not.

    The label "A" is not the article "a".
    """
    for match in re.finditer(re.escape(label), answer, re.IGNORECASE):
        before, after = answer[: match.start()], answer[match.end() :]
        parts = _parts_word(before[-1:], label[:1]) or _parts_word(after[:1], label[-1:])
        article = match[0] == "a" and re.match(r"\s+(?!is\b|because\b|since\b|as\b)[^\W\d_]", after)
        if not parts and not article:
            return match.start()
    return None


def _parts_word(neighbour: str, edge: str) -> bool:
    """Whether a character beside a label makes it a part of a longer word."""
    if not neighbour or (SPACELESS.match(neighbour) and SPACELESS.match(edge)):
        return False
    return neighbour == "_" or unicodedata.category(neighbour)[0] in "LMN"


def _visible(text: str) -> str:
    return INVISIBLE.sub("", text) if not text.isascii() else text
