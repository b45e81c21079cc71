"""Rules that repair the text that is kept: wrong encodings, control characters, Unicode form."""

import bisect
import re
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import ftfy
from ftfy.badness import is_bad

# Decoding mistakes only: ftfy would also unescape HTML and straighten quotes, which changes what
# a text says.
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
LINE_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\u0085\u2028\u2029]")
# What ftfy considers wrongly decoded has one of these characters, or two in a row outside ASCII.
DOUBTFUL = re.compile("[^\x00-\x7f](?:(?<=[\x80-\x9fŒœÂÃ])|[^\x00-\x7f])")
MAX_PASSES = 8  # one repairs nearly every text; some texts are made to need more
HARMLESS = bytes([9, 10, *range(32, 127)])
SUSPECT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
# Terminal escape sequences, C0 and C1 control characters except tab and line feed, and the
# byte-order mark.
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
EVIDENCE_CHARACTERS = 20


class Cleaned(NamedTuple):
    """A text as it is kept, the first rule that changed it, and the evidence of all rules.

    Rule and evidence are "" for a text that no rule changed.
    """

    text: str
    rule: str
    evidence: str


def clean(text: str) -> Cleaned:
    """Repair a text.

    Rules, in order: `mojibake` (ftfy; Speer 2019), `control_characters` (removed; line breaks,
    vertical tabs and form feeds among them, become line feeds), `unicode_nfc` (canonical
    composition, Unicode Annex 15) and `surrounding_space`. They run again until
    nothing changes, since one repair may expose what the next one repairs.
    """
    rule, evidence = "", []
    steps = _steps(text)
    for _ in range(MAX_PASSES):
        before = text
        for name, step in steps.items():
            changed = step(text)
            if changed != text:
                rule = rule or name
                evidence.append(f"{name}: {_difference(text, changed)}")
                text = changed
        # After a pass that only stripped, another can change only the first and the last line.
        ends = text[: text.find("\n")] + text[text.rfind("\n") :]
        if text == before or (ends.isascii() and text == before.strip()):
            break
    return Cleaned(text, rule, "; ".join(evidence))


def _steps(text: str) -> dict[str, Callable[[str], str]]:
    """The rules that can change a text."""
    # Deleting the harmless bytes is four times as fast as searching for others.
    if text.isascii() and not text.encode().translate(None, HARMLESS):
        return {"surrounding_space": str.strip}
    return {
        "mojibake": _fix_encoding,
        "control_characters": _remove_control,
        "unicode_nfc": partial(unicodedata.normalize, "NFC"),
        "surrounding_space": str.strip,
    }


def _fix_encoding(text: str) -> str:
    if not DOUBTFUL.search(text):
        return text
    lines = text.split("\n")  # ftfy repairs line by line, and is slow
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
        lengths = range(min(len(before), len(after)))
        start = bisect.bisect(lengths, 0, key=lambda n: before[: n + 1] != after[: n + 1])
    old = before[start : start + EVIDENCE_CHARACTERS]
    new = after[start : start + EVIDENCE_CHARACTERS]
    return f"{old!r} became {new!r} at character {start}"
