"""Regular expressions from data: refused where a search for them would not end, and timed."""

import logging
import re
from functools import cache

import regex

SECONDS = 1.0  # of one search, CPU time; a sound pattern takes microseconds on an answer
PROBE_CHARACTERS = 64  # 2 ** 64 ways to part them take for ever, and their squares no time

log = logging.getLogger(__name__)


def require_pattern(pattern: str) -> None:
    """Raise ValueError for what is no regular expression, and for one that searches for ever."""
    try:
        re.compile(pattern)
        regex.compile(pattern)
    except (re.error, regex.error, OverflowError, RecursionError) as error:
        raise ValueError(f"no regular expression: {error}") from None
    slow = slow_text(pattern)
    if slow:
        raise ValueError(
            f"the search for it does not end in {SECONDS} s on a text such as {slow[:12]!r}…; "
            "write it without a repetition inside a repetition"
        )


def is_found(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text; false, and a warning, after SECONDS."""
    try:
        return regex.search(pattern, text, timeout=SECONDS) is not None
    except TimeoutError:
        log.warning(
            "the pattern %r took over %g s on a text of %d characters; it counts as not found",
            pattern,
            SECONDS,
            len(text),
        )
        return False


@cache
def slow_text(pattern: str) -> str:
    """A text in which the search for the pattern takes longer than SECONDS, or "".

    Tried are repetitions of each character in the pattern and of one of each class, with an end
    that fits nothing: they make nested repetitions try every way to part them (Davis et al. 2018,
    "The impact of regular expression denial of service in practice").
    """
    for character in sorted({*pattern, "a", "0", " "}):
        text: str = character * PROBE_CHARACTERS + "\n\0"
        try:
            regex.search(pattern, text, timeout=SECONDS)
        except TimeoutError:
            return text
    return ""
