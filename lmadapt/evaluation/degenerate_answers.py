"""Free answers that are none: empty ones, and ones that repeat themselves to the end."""

from collections.abc import Sequence

from lmadapt.sources.answer_texts import fold, space_characters

# Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration": a phrase of at least two
# words that stands at least three times in a row at the end.
COPIES = 3
PHRASE_WORDS = 2
# A word without spaces, such as "!!!!…": one of its parts is repeated over at least so many
# characters. A line of 20 dashes is a usual rule between paragraphs.
RUN_CHARACTERS = 32


def is_degenerate(answer: str) -> bool:
    """Whether a free answer is empty or loops."""
    return not answer.strip() or loops_to_end(answer)


def loops_to_end(answer: str) -> bool:
    """Whether the answer repeats itself to its end.

    That is: a phrase of two or more words (one word counts as a phrase with its own copy) stands
    there three times in a row or more, or a part of the last word is repeated three times or more
    over 32 characters. Case does not matter. The last copy, and the last word, may be cut off by
    the limit of the answer's length. In scripts without spaces a character is a word.
    """
    words = space_characters(fold(answer)).split()
    if not words:
        return False
    return (
        _repeats(words, PHRASE_WORDS * COPIES)
        or _repeats(words[:-1], PHRASE_WORDS * COPIES)
        or _repeats(words[-1], RUN_CHARACTERS)
    )


def _repeats(parts: Sequence[str], least: int) -> bool:
    """Whether the end repeats itself: COPIES copies or more, which are `least` parts or more."""
    for period in range(1, len(parts) // COPIES + 1):
        length = period
        while length < len(parts) and parts[-1 - length] == parts[-1 - length + period]:
            length += 1
        if length >= max(least, COPIES * period):
            return True
    return False
