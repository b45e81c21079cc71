"""Examples to rows: short examples share a row without seeing each other, long texts are split."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import torch

from lmadapt.models.chat import IGNORED, Encoded

PackedRow = dict[str, list[int]]
"""`input_ids`, `labels`, `position_ids` and `sources` (DOMAIN or REPLAY), lists of equal length.

Positions restart at 0 with each example. From this transformers' `masking_utils` infers that the
examples do not attend to each other, as long as the row has no attention mask.
"""

DOMAIN, REPLAY = 0, 1  # the values of `sources`
LOOK_AHEAD = 16  # at most so many examples are passed over to find one that still fits into a step


def split_document(document: Encoded, *, max_tokens: int) -> list[Encoded]:
    """Cut a document into pieces of at most `max_tokens` tokens (at least 2).

    Each piece starts with the last token of the piece before it, as context, so that every token
    of the document but its first is predicted exactly once.
    """
    starts = range(0, max(1, len(document.input_ids) - 1), max_tokens - 1)
    ids, labels = document.input_ids, document.labels
    return [
        replace(document, input_ids=ids[i : i + max_tokens], labels=labels[i : i + max_tokens])
        for i in starts
    ]


def pack(examples: Sequence[Encoded], *, max_tokens: int, rows_per_step: int) -> list[PackedRow]:
    """Rows of at most `max_tokens` tokens in order of training, `rows_per_step` to a step.

    The rows of a step are filled best-fit from the next examples in order, so that a mixture which
    is interleaved in the examples is interleaved in every step. Nothing is dropped or cut. Raises
    ValueError where an example is longer than a row.
    """
    longest = max((len(example.input_ids) for example in examples), default=0)
    if longest > max_tokens:
        raise ValueError(f"an example of {longest} tokens does not fit into a row of {max_tokens}")
    steps = _fill_steps(examples, max_tokens, rows_per_step)
    return [_packed(row) for row in chain.from_iterable(steps)]


def _fill_steps(
    examples: Sequence[Encoded], max_tokens: int, rows_per_step: int
) -> Iterator[list[list[Encoded]]]:
    waiting = deque(examples)
    while waiting:
        rows: list[list[Encoded]] = [[] for _ in range(rows_per_step)]
        room = [max_tokens] * rows_per_step
        passed: list[Encoded] = []
        while waiting and len(passed) < LOOK_AHEAD:
            example = waiting.popleft()
            length = len(example.input_ids)
            fitting = [index for index in range(rows_per_step) if room[index] >= length]
            if fitting:
                best = min(fitting, key=lambda index: room[index])
                rows[best].append(example)
                room[best] -= length
            else:
                passed.append(example)
        waiting.extendleft(reversed(passed))
        yield [row for row in rows if row]


def _packed(examples: Iterable[Encoded]) -> PackedRow:
    row: PackedRow = {"input_ids": [], "labels": [], "position_ids": [], "sources": []}
    for example in examples:
        row["input_ids"] += example.input_ids
        # No example before it in the row may predict its first token.
        row["labels"] += [IGNORED, *example.labels[1:]]
        row["position_ids"] += range(len(example.input_ids))
        row["sources"] += [REPLAY if example.replayed else DOMAIN] * len(example.input_ids)
    return row


def stack_rows(rows: Sequence[PackedRow]) -> dict[str, torch.Tensor]:
    """The rows as tensors [B, L] int64, the shorter ones filled up to the longest.

    Filler carries no loss, and each token of it counts as an example of its own.
    """
    length = max(len(row["labels"]) for row in rows)
    stacked = {}
    for name in rows[0]:
        filler = IGNORED if name == "labels" else 0
        stacked[name] = torch.tensor(
            [row[name] + [filler] * (length - len(row[name])) for row in rows]
        )
    return stacked


def tokens_per_step(rows: Sequence[PackedRow], rows_per_step: int) -> list[int]:
    """Tokens of each optimiser step."""
    tokens = [len(row["input_ids"]) for row in rows]
    return [sum(tokens[i : i + rows_per_step]) for i in range(0, len(tokens), rows_per_step)]
