"""General data where the user has none: what the base model itself writes, replayed against forgetting.

A model's own samples stand for what it was trained on: pseudo-rehearsal (Robins 1995), for language models Sun, Ho &
Lee 2020 (LAMOL) and Huang et al. 2024 (Self-Synthesized Rehearsal). Drawn at temperature 1 with nothing cut off, their
cross-entropy is, but for a constant, an estimate of KL(base || model).
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
from lmadapt.models.chat import PLACEHOLDER, PLAIN_TEMPLATE, encode_conversation, encode_prompt
from lmadapt.models.generation import continuations
from lmadapt.models.loading import load_bf16

KEPT = Path(".training/self_replay")  # what was written before, by base, seed and settings
BATCH_SIZE = 32  # sequences written at once
QUESTION_TOKENS, ANSWER_TOKENS = 48, 64  # at most
MARGIN = 1.05  # more than the share asks for, as examples are drawn whole
UNCUT = {
    "do_sample": True,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
}  # the model's own distribution

Row = dict[str, Any]


def self_texts(
    base: Path, tokenizer: Any, *, tokens: int, max_sequence_tokens: int, seed: int
) -> list[Row]:
    """Rows of the table DOCUMENT: at least `tokens` tokens of text that the model at `base` wrote from nothing.

    Each has at most `max_sequence_tokens`. Kept below KEPT.
    """

    def write(model: Any) -> Iterator[Row]:
        start = (
            tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        )
        written = 0
        while written < MARGIN * tokens:
            count = min(BATCH_SIZE, math.ceil((MARGIN * tokens - written) / max_sequence_tokens))
            options = UNCUT | {"max_new_tokens": max_sequence_tokens - 2}
            said = continuations([[start]] * count, model, tokenizer, options)
            for text in tokenizer.batch_decode(said, skip_special_tokens=True):
                written += len(tokenizer(text)["input_ids"])
                yield {"text": text}

    return _kept(base, DOCUMENT, write, [tokens, max_sequence_tokens], seed)


def self_instructions(base: Path, tokenizer: Any, *, loss_tokens: int, seed: int) -> list[Row]:
    """Rows of the table INSTRUCTION whose answers have at least `loss_tokens` tokens.

    The model writes the user's message after what the chat template puts before one, then answers it (Xu et al. 2024,
    Magpie). Under the plain template of a base model a line end ends either. Kept below KEPT.
    """
    text = tokenizer.apply_chat_template([{"role": "user", "content": PLACEHOLDER}], tokenize=False)
    before = tokenizer(text.partition(PLACEHOLDER)[0].rstrip(" "), add_special_tokens=False)[
        "input_ids"
    ]
    ends: list[int] = []
    if tokenizer.chat_template == PLAIN_TEMPLATE:
        ends = [token for token in range(len(tokenizer)) if "\n" in tokenizer.decode([token])]

    def write(model: Any) -> Iterator[Row]:
        def say(prompts: list[list[int]], most: int) -> list[str]:
            said = continuations(prompts, model, tokenizer, UNCUT | {"max_new_tokens": most}, ends)
            texts = tokenizer.batch_decode(said, skip_special_tokens=True)
            return [text.partition("\n")[0].strip() if ends else text.strip() for text in texts]

        asked: set[str] = set()
        written = 0
        while written < MARGIN * loss_tokens:
            new = sorted(set(say([before] * BATCH_SIZE, QUESTION_TOKENS)) - asked - {""})
            asked.update(new)
            turns = [[{"role": "user", "content": question}] for question in new]
            answers = (
                say([encode_prompt(tokenizer, turn) for turn in turns], ANSWER_TOKENS)
                if new
                else []
            )
            for turn, answer in zip(turns, answers, strict=True):
                if answer:
                    messages = [*turn, {"role": "assistant", "content": answer}]
                    written += encode_conversation(tokenizer, messages).loss_tokens
                    yield {"messages": messages, "category": "self"}

    return _kept(base, INSTRUCTION, write, [loss_tokens, tokenizer.chat_template], seed)


def _kept(
    base: Path,
    schema: pa.Schema,
    write: Callable[[Any], Iterator[Row]],
    settings: list[Any],
    seed: int,
) -> list[Row]:
    """What was kept for this base, seed, settings and code, else what `write` gives, which is kept whole."""
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
        named = {"entity": "", "source": "self"}
        written = enumerate(write(load_bf16(base)))
        write_table(
            (named | {"id": f"self/{n}", "location": str(n)} | row for n, row in written),
            schema,
            file,
        )
    return list(read_table(file, schema).to_pylist())
