"""Examples to rows: several short examples share a row without seeing each other, long documents are split."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from lmadapt.models.chat import IGNORED, Encoded

Row = dict[str, list[int]]
"""One packed row: input_ids, labels, position_ids and sources (DOMAIN or REPLAY) of equal length. Positions restart at
0 with each example, from which transformers' `masking_utils` infers that examples do not attend to each other (for rows
given without an attention mask)."""

DOMAIN, REPLAY = 0, 1  # what a token of a row is from

LOOK_AHEAD = (
    16  # examples passed over, at most, in search of one that still fits into a step's rows
)


def split_document(document: Encoded, *, max_tokens: int) -> list[Encoded]:
    """Cut a document into pieces of at most `max_tokens` tokens (at least 2).

    Each piece begins with the last token of the piece before it, as context: so every token of the document but its
    first is predicted exactly once.
    """
    starts = range(0, max(1, len(document.input_ids) - 1), max_tokens - 1)
    ids, labels = document.input_ids, document.labels
    return [
        replace(document, input_ids=ids[i : i + max_tokens], labels=labels[i : i + max_tokens])
        for i in starts
    ]


def pack(examples: Sequence[Encoded], *, max_tokens: int, rows_per_step: int) -> list[Row]:
    """Rows of at most `max_tokens` tokens, in order of training; each `rows_per_step` of them are an optimiser step.

    A step's rows are filled best-fit from the next examples in order, so what is interleaved in the examples is
    interleaved in every step. Nothing is dropped or cut; raises ValueError for an example longer than a row.
    """
    too_long = [
        len(example.input_ids) for example in examples if len(example.input_ids) > max_tokens
    ]
    if too_long:
        raise ValueError(
            f"an example of {max(too_long)} tokens does not fit into a row of {max_tokens}"
        )
    return [_row(row) for step in _steps(examples, max_tokens, rows_per_step) for row in step]


def _steps(
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


def _row(examples: Iterable[Encoded]) -> Row:
    row: Row = {"input_ids": [], "labels": [], "position_ids": [], "sources": []}
    for example in examples:
        row["input_ids"] += example.input_ids
        row["labels"] += [
            IGNORED,
            *example.labels[1:],
        ]  # nothing before it in the row may predict the first token
        row["position_ids"] += range(len(example.input_ids))
        row["sources"] += [REPLAY if example.replayed else DOMAIN] * len(example.input_ids)
    return row


def micro_batch(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """The rows as tensors [B, L]; what fills up a shorter one carries no loss, and each token of it is an example."""
    length = max(len(row["labels"]) for row in rows)
    filler = {"labels": IGNORED}
    return {
        name: torch.tensor(
            [row[name] + [filler.get(name, 0)] * (length - len(row[name])) for row in rows]
        )
        for name in rows[0]
    }
