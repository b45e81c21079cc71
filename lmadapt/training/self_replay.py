"""Replay data that the base model writes itself, for users without general data.

A model's own samples stand for its training data: pseudo-rehearsal (Robins 1995), for language
models Sun, Ho & Lee 2020 (LAMOL) and Huang et al. 2024 (Self-Synthesized Rehearsal). At temperature
1 and with no token cut off, their cross-entropy estimates KL(base || model) up to a constant.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from lmadapt.core.files import file_sha256, folder_sha256
from lmadapt.core.tables import DOCUMENT, INSTRUCTION, read_table, write_table
from lmadapt.models.chat import (
    PLACEHOLDER,
    PLAIN_TEMPLATE,
    Message,
    encode_conversation,
    encode_prompt,
    start_of_text,
)
from lmadapt.models.generation import continuations
from lmadapt.models.loading import load_bf16

KEPT = Path(".lmadapt/self_replay")  # tables of earlier runs; git ignores the folder
BATCH_SIZE = 32  # sequences written at once
QUESTION_TOKENS, ANSWER_TOKENS = 48, 64  # at most
MARGIN = 1.05  # so much more than needed is written, as the mixture draws whole examples
# The model's own distribution:
UNCUT = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


def self_texts(
    base: Path, tokenizer: Any, *, tokens: int, max_sequence_tokens: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of the table DOCUMENT: at least `tokens` tokens that the model at `base` writes.

    It starts each text from nothing; a text has at most `max_sequence_tokens` tokens. The table is
    kept below KEPT for the next run.
    """

    def write(model: Any) -> Iterator[dict[str, Any]]:
        return _write_texts(model, tokenizer, MARGIN * tokens, max_sequence_tokens)

    return _kept_or_written(base, DOCUMENT, write, [tokens, max_sequence_tokens], seed)


def self_instructions(
    base: Path, tokenizer: Any, *, loss_tokens: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of the table INSTRUCTION whose answers have at least `loss_tokens` tokens.

    The model at `base` writes the user's message after what the chat template puts before it, then
    answers it (Xu et al. 2024, Magpie). With the plain template of a base model, a question or an
    answer ends at a line end. The table is kept below KEPT for the next run.
    """

    def write(model: Any) -> Iterator[dict[str, Any]]:
        return _write_instructions(_Writer(model, tokenizer), MARGIN * loss_tokens)

    settings = [loss_tokens, tokenizer.chat_template]
    return _kept_or_written(base, INSTRUCTION, write, settings, seed)


def _write_texts(
    model: Any, tokenizer: Any, tokens: float, max_sequence_tokens: int
) -> Iterator[dict[str, Any]]:
    start = start_of_text(tokenizer)
    options = UNCUT | {"max_new_tokens": max_sequence_tokens - 2}  # start and end tokens
    written = 0
    while written < tokens:
        count = min(BATCH_SIZE, math.ceil((tokens - written) / max_sequence_tokens))
        sequences = continuations([[start]] * count, model, tokenizer, options)
        for text in tokenizer.batch_decode(sequences, skip_special_tokens=True):
            written += len(tokenizer(text)["input_ids"])
            yield {"text": text}


class _Writer:
    """Writes questions and answers in the form of the tokenizer's chat template."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        turn = [{"role": "user", "content": PLACEHOLDER}]
        before = tokenizer.apply_chat_template(turn, tokenize=False).partition(PLACEHOLDER)[0]
        encoded = tokenizer(before.rstrip(" "), add_special_tokens=False)
        self.before_question: list[int] = encoded["input_ids"]
        self.line_ends: list[int] = []  # tokens at which a turn ends, with the plain template
        if tokenizer.chat_template == PLAIN_TEMPLATE:
            vocabulary = range(len(tokenizer))
            self.line_ends = [token for token in vocabulary if "\n" in tokenizer.decode([token])]

    def questions(self, count: int) -> list[str]:
        """`count` messages of a user."""
        return self._continue([self.before_question] * count, QUESTION_TOKENS)

    def answers(self, questions: list[list[Message]]) -> list[str]:
        """An answer to each question."""
        if not questions:
            return []
        prompts = [encode_prompt(self.tokenizer, question) for question in questions]
        return self._continue(prompts, ANSWER_TOKENS)

    def _continue(self, prompts: list[list[int]], max_tokens: int) -> list[str]:
        options = UNCUT | {"max_new_tokens": max_tokens}
        sequences = continuations(prompts, self.model, self.tokenizer, options, self.line_ends)
        texts = self.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        if self.line_ends:
            texts = [text.partition("\n")[0] for text in texts]
        return [text.strip() for text in texts]


def _write_instructions(writer: _Writer, loss_tokens: float) -> Iterator[dict[str, Any]]:
    asked: set[str] = set()
    written = 0
    while written < loss_tokens:
        new = sorted(set(writer.questions(BATCH_SIZE)) - asked - {""})
        asked.update(new)
        questions: list[list[Message]] = [[{"role": "user", "content": text}] for text in new]
        for question, answer in zip(questions, writer.answers(questions), strict=True):
            if answer:
                messages: list[Message] = [*question, {"role": "assistant", "content": answer}]
                written += encode_conversation(writer.tokenizer, messages).loss_tokens
                yield {"messages": messages, "category": "self"}


def _kept_or_written(
    base: Path,
    schema: pa.Schema,
    write: Callable[[Any], Iterator[dict[str, Any]]],
    settings: list[Any],
    seed: int,
) -> list[dict[str, Any]]:
    """The table kept for this base, seed, settings and code; else what `write` gives, then kept."""
    facts = [
        folder_sha256(base),
        seed,
        settings,
        schema.names,
        file_sha256(Path(__file__)),
        torch.__version__,
    ]
    file = KEPT / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}.parquet"
    if not file.is_file():
        torch.manual_seed(seed)
        written = write(load_bf16(base))
        write_table((_identified(number, row) for number, row in enumerate(written)), schema, file)
    return list(read_table(file, schema).to_pylist())


def _identified(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """The row with the columns that say where it comes from."""
    origin = {"id": f"self/{number}", "source": "self", "location": str(number), "entity": ""}
    return origin | row
