"""What a model is asked to score: multiple-choice items and documents as tokens."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.models.chat import (
    Message,
    encode_choice,
    encode_prompt,
    encode_text,
    encode_text_after,
    start_of_text,
)

# Tokens of one window of a document. Every token but the first 1,023 follows at least half a
# window of context.
WINDOW_TOKENS = 1024

Document = TypeVar("Document", bound=Mapping[str, Any])


@dataclass(frozen=True)
class Question:
    """A context and the continuations to score after it, as token ids; none of them is empty."""

    context: list[int]
    continuations: list[list[int]]


def encode_item(
    tokenizer: Any, prompt: str, choices: Sequence[str], shots: Sequence[Message] = ()
) -> Question:
    """A multiple-choice item: the user asks `prompt`, and the assistant may answer each choice.

    The conversation `shots` comes before it. Raises UserError when a choice has no tokens.
    """
    messages = [*shots, {"role": "user", "content": prompt}]
    question = Question(
        encode_prompt(tokenizer, messages),
        [encode_choice(tokenizer, messages, choice) for choice in choices],
    )
    if not all(question.continuations):
        raise UserError(f"the question {prompt[:200]!r} has an empty choice: {choices!r}")
    return question


def encode_bare(tokenizer: Any, prompt: str, choices: Sequence[str]) -> Question:
    """A multiple-choice item as plain text: the prompt, a line end, a choice; no chat template."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    before = prompt + "\n"
    context = encode_text(tokenizer, before)
    return Question(
        [*start, *context], [encode_text_after(tokenizer, before, text) for text in choices]
    )


def encode_document(tokenizer: Any, text: str) -> list[Question]:
    """A document as overlapping windows; each token is scored in one of them.

    Every window starts with the token that starts a text.
    """
    start = start_of_text(tokenizer)
    tokens = encode_text(tokenizer, text)
    size = WINDOW_TOKENS - 1
    windows = [Question([start], [tokens[:size]])] if tokens else []
    for begin in range(size, len(tokens), size // 2):
        end = min(begin + size // 2, len(tokens))
        windows.append(Question([start, *tokens[end - size : begin]], [tokens[begin:end]]))
    return windows


def texts_within(
    documents: Iterable[Document], tokenizer: Any, heldout_tokens: int, seed: int
) -> Iterator[tuple[Document, list[Question]]]:
    """Draw documents, each with its windows, up to `heldout_tokens` tokens of each group.

    `documents`: rows of the table HELDOUT; `seed` decides their order. A document that would
    exceed the limit is left out, and a shorter one may still follow.
    """
    ordered: Sequence[Document] = sorted(documents, key=lambda document: str(document["id"]))
    left: dict[str, int] = {}
    for index in np.random.default_rng(seed).permutation(len(ordered)):
        document = ordered[index]
        windows = encode_document(tokenizer, document["text"])
        tokens = sum(len(window.continuations[0]) for window in windows)
        if 0 < tokens <= left.setdefault(document["group"], heldout_tokens):
            left[document["group"]] -= tokens
            yield document, windows


def choose(likelihoods: Sequence[float], choices: Sequence[str]) -> int:
    """The index of the choice that is likeliest per UTF-8 byte.

    This is acc_norm of lm-evaluation-harness, with lengths in bytes instead of characters.
    """
    pairs = zip(likelihoods, choices, strict=True)
    return int(np.argmax([value / len(choice.encode()) for value, choice in pairs]))
