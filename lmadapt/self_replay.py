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

from lmadapt.chat import PLACEHOLDER, PLAIN_TEMPLATE, encode_conversation, encode_prompt, end_of_turn
from lmadapt.files import file_sha256, folder_sha256
from lmadapt.models import load_bf16
from lmadapt.records import DOCUMENT, INSTRUCTION, read_table, write_table

KEPT = Path(".lmadapt/self_replay")  # what was written before, by base, seed and settings
BATCH_SIZE = 32  # sequences written at once
QUESTION_TOKENS, ANSWER_TOKENS = 48, 64  # at most; the end of what is longer is not replayed
MARGIN = 1.05  # more than the share asks for, as examples are drawn whole

Row = dict[str, Any]


def self_texts(base: Path, tokenizer: Any, *, tokens: int, max_sequence_tokens: int, seed: int) -> list[Row]:
    """Rows of the table DOCUMENT with at least `tokens` tokens of text that the model at `base` wrote from nothing.

    Each begins with the token that begins a text, and has at most `max_sequence_tokens`. Kept below KEPT.
    """

    def write(model: Any) -> Iterator[Row]:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        written = 0
        while written < MARGIN * tokens:
            count = min(BATCH_SIZE, math.ceil((MARGIN * tokens - written) / max_sequence_tokens))
            for said in _draw(model, tokenizer, [[start]] * count, max_sequence_tokens - 2, set()):
                written += len(said)
                yield {"text": tokenizer.decode(said, skip_special_tokens=True)}

    return _kept(base, DOCUMENT, write, [tokens, max_sequence_tokens], seed)


def self_instructions(base: Path, tokenizer: Any, *, loss_tokens: int, seed: int) -> list[Row]:
    """Rows of the table INSTRUCTION whose answers have at least `loss_tokens` tokens.

    The model writes the user's message after what the chat template puts before one, then answers it (Xu et al. 2024,
    Magpie). Under the plain template of a base model a line end ends either. Kept below KEPT.
    """
    text = tokenizer.apply_chat_template([{"role": "user", "content": PLACEHOLDER}], tokenize=False)
    before = tokenizer(text.partition(PLACEHOLDER)[0].rstrip(" "), add_special_tokens=False)["input_ids"]
    ends = _line_ends(tokenizer) if tokenizer.chat_template == PLAIN_TEMPLATE else set()

    def write(model: Any) -> Iterator[Row]:
        asked, written = set(), 0
        while written < MARGIN * loss_tokens:
            drawn = _draw(model, tokenizer, [before] * BATCH_SIZE, QUESTION_TOKENS, ends)
            questions = {tokenizer.decode(said, skip_special_tokens=True).strip(): None for said in drawn}
            new = [question for question in questions if question and question not in asked]
            asked.update(new)
            prompts = [encode_prompt(tokenizer, [{"role": "user", "content": question}]) for question in new]
            for question, said in zip(new, _draw(model, tokenizer, prompts, ANSWER_TOKENS, ends), strict=True):
                if answer := tokenizer.decode(said, skip_special_tokens=True).strip():
                    turns = (("user", question), ("assistant", answer))
                    messages = [{"role": role, "content": content} for role, content in turns]
                    written += encode_conversation(tokenizer, messages).loss_tokens
                    yield {"messages": messages, "category": "self"}

    return _kept(base, INSTRUCTION, write, [loss_tokens, tokenizer.chat_template], seed)


def _kept(
    base: Path, schema: pa.Schema, write: Callable[[Any], Iterator[Row]], settings: list[Any], seed: int
) -> list[Row]:
    """What was kept for this base, seed, settings and code, else what `write` gives, which is kept whole."""
    facts = [folder_sha256(base), seed, settings, schema.names, file_sha256(Path(__file__)), torch.__version__]
    file = KEPT / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}.parquet"
    if not file.is_file():
        torch.manual_seed(seed)
        written = enumerate(write(load_bf16(base)))
        named = ({"id": f"self/{n}", "entity": "", "source": "self", "location": str(n)} | row for n, row in written)
        write_table(named, schema, file)
    return list(read_table(file, schema).to_pylist())


@torch.inference_mode()
def _draw(
    model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int, ends: set[int]
) -> Iterator[list[int]]:
    """What the model says after each prompt, up to one of `ends` or of its own end tokens, without it."""
    if not prompts:
        return
    stop = {end_of_turn(tokenizer), tokenizer.eos_token_id, *ends} - {None}
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    longest = max(map(len, prompts))
    ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    sequences = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=max_new_tokens,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        pad_token_id=padding,
        eos_token_id=sorted(stop),
    )
    for sequence in sequences[:, longest:].tolist():
        yield sequence[: next((place for place, token in enumerate(sequence) if token in stop), None)]


def _line_ends(tokenizer: Any) -> set[int]:
    """The tokens that hold a line end."""
    vocabulary = sorted(tokenizer.get_vocab().values())
    pieces = tokenizer.batch_decode([[token] for token in vocabulary])
    return {token for token, piece in zip(vocabulary, pieces, strict=True) if "\n" in piece}
