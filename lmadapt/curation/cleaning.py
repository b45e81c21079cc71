"""Repair of text that is kept: wrong encodings, control characters, composed Unicode."""

import bisect
import re
import unicodedata
from collections.abc import Callable
from functools import partial

import ftfy
from ftfy.badness import is_bad

# Decoding mistakes only: ftfy would also unescape HTML and straighten quotes, which changes what a text says.
MOJIBAKE = ftfy.TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    remove_control_chars=False,
    normalization=None,
)
LINE_BREAKS = re.compile(r"\r\n?|[\u0085\u2028\u2029]")
# What ftfy takes for wrongly decoded has one of these characters, or two in succession that are not ASCII.
DOUBTFUL = re.compile("[^\x00-\x7f](?:(?<=[\x80-\x9fŒœÂÃ])|[^\x00-\x7f])")
MAX_PASSES = 8  # one repairs nearly every text; more are seen in texts made to need them
HARMLESS = bytes([9, 10, *range(32, 127)])
SUSPECT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
# Terminal escape sequences, C0 and C1 control characters but tab and line feed, and the byte-order mark.
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")


def clean(text: str) -> tuple[str, str, str]:
    """The text as it is kept, the first rule that changed it, and the evidence of all; "" and "" when untouched.

    Rules, in order: `mojibake` (ftfy; Speer 2019), `control_characters` (removed; line breaks become line feeds),
    `unicode_nfc` (canonical composition, Unicode Annex 15), `surrounding_space`; again until nothing changes, since one
    repair may bring out what the next one mends.
    """
    rule, evidence = "", []
    steps: dict[str, Callable[[str], str]] = {
        "mojibake": _fix_encoding,
        "control_characters": _remove_control,
        "unicode_nfc": partial(unicodedata.normalize, "NFC"),
        "surrounding_space": str.strip,
    }
    if text.isascii() and not text.encode().translate(
        None, HARMLESS
    ):  # four times as fast as a search
        steps = {"surrounding_space": str.strip}
    for _ in range(MAX_PASSES):
        before = text
        for name, step in steps.items():
            changed = step(text)
            if changed != text:
                rule = rule or name
                evidence.append(f"{name}: {_difference(text, changed)}")
                text = changed
        ends = (
            text[: text.find("\n")] + text[text.rfind("\n") :]
        )  # of many lines the first and the last
        if text == before or (ends.isascii() and text == before.strip()):
            break
    return text, rule, "; ".join(evidence)


def _fix_encoding(text: str) -> str:
    if not DOUBTFUL.search(text):
        return text
    lines = text.split("\n")  # ftfy is slow, and repairs line by line as well
    for place, line in enumerate(lines):
        if not line.isascii() and DOUBTFUL.search(line) and is_bad(line):
            lines[place] = ftfy.fix_text(line, MOJIBAKE)
    return "\n".join(lines)


def _remove_control(text: str) -> str:
    return CONTROL.sub("", LINE_BREAKS.sub("\n", text)) if SUSPECT.search(text) else text


def _difference(before: str, after: str) -> str:
    """The first place where two texts differ, with a little of what follows."""
    start = len(after)
    if not before.startswith(after):
        start = bisect.bisect(
            range(min(len(before), len(after))), 0, key=lambda n: before[: n + 1] != after[: n + 1]
        )
    return (
        f"{before[start : start + 20]!r} became {after[start : start + 20]!r} at character {start}"
    )
