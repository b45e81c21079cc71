"""Lines that stand in many documents of a source: navigation, licence headers, footers."""

from collections import Counter
from collections.abc import Iterable, Set

MIN_DOCUMENTS = 10  # that share a line, before any share of them says something
MIN_CHARACTERS = 12  # of a line: braces and "return" repeat everywhere
MAX_LINES = 200_000  # counted at once


def common_lines(documents: Iterable[str], min_fraction: float) -> frozenset[str]:
    """Lines, without white space at their ends, that at least `min_fraction` of the documents have.

    Memory does not grow with their number: lines seen too rarely so far to matter are forgotten from time to time,
    which makes a count too small by at most documents x lines a document / MAX_LINES (Manku and Motwani 2002).
    """
    counts: Counter[str] = Counter()
    number = forgotten = 0
    for number, text in enumerate(documents, start=1):  # noqa: B007 - used below
        counts.update(set(map(str.strip, text.split("\n"))))
        while len(counts) > MAX_LINES:
            forgotten += 1
            counts = Counter({line: count for line, count in counts.items() if count > forgotten})
    least = max(MIN_DOCUMENTS, min_fraction * number)
    return frozenset(line for line, count in counts.items() if count >= least and len(line) >= MIN_CHARACTERS)


def remove_lines(text: str, lines: Set[str]) -> tuple[str, int]:
    """The text without those lines, and how many they were."""
    kept = text.split("\n")
    if lines.isdisjoint(map(str.strip, kept)):
        return text, 0
    remaining = [line for line in kept if line.strip() not in lines]
    return "\n".join(remaining).strip(), len(kept) - len(remaining)
