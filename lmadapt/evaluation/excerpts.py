"""Held-out text for bits per byte: the beginnings of many documents, not a few whole ones."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from lmadapt.models.chat import encode_text
from lmadapt.models.questions import Document

# Intervals are of documents, so few long ones tell little. With 30, Student's quantile is within
# 4 % of the normal one.
DOCUMENTS = 30
LONGEST_TOKEN = 16  # characters; a text is cut to as many for each token before it is encoded


def draw_excerpts(
    documents: Iterable[Document], tokenizer: Any, heldout_tokens: int, seed: int
) -> Iterator[Document]:
    """Draw documents, each cut to its beginning, up to `heldout_tokens` tokens of each group.

    documents: rows of the table HELDOUT; `seed` decides their order. A document gives at most its
    share of the tokens between DOCUMENTS documents, or between all of its group where there are
    fewer, so that none has most of the bytes. A group ends with the first document that would
    exceed the tokens left.
    """
    ordered = sorted(documents, key=lambda document: str(document["id"]))
    counts = Counter(str(document["group"]) for document in ordered)
    left = dict.fromkeys(counts, heldout_tokens)
    for place in np.random.default_rng(seed).permutation(len(ordered)):
        document = ordered[place]
        group = str(document["group"])
        if not left[group]:
            continue
        share = max(1, heldout_tokens // min(DOCUMENTS, counts[group]))
        text, tokens = beginning(document["text"], tokenizer, share)
        if tokens > left[group]:
            left[group] = 0
        elif tokens:
            left[group] -= tokens
            yield {**document, "text": text}  # type: ignore[misc]


def beginning(text: str, tokenizer: Any, most: int) -> tuple[str, int]:
    """The longest beginning of whole words with about `most` tokens, and how many it has.

    It has `most` tokens or fewer. A text without spaces is cut between characters.
    """
    cut = text[: most * LONGEST_TOKEN]
    tokens = len(encode_text(tokenizer, cut))
    while tokens > most:
        end = len(cut) * most // tokens
        within_word = not cut[end].isspace() and not cut[end - 1 : end].isspace()
        if within_word:
            words = cut[:end].rsplit(maxsplit=1)
            end = len(words[0]) if len(words) == 2 else end
        cut = cut[:end].rstrip()
        tokens = len(encode_text(tokenizer, cut))
    return cut, tokens
