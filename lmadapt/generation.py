"""Answers to conversations, in batches; greedy unless a temperature is given."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from lmadapt.chat import Message, encode_prompt, end_of_turn
from lmadapt.errors import UserError

BATCH_SIZE = 8  # prompts answered at once


def generate_answers(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """What the assistant says next in each conversation, in the given order, stripped of white space.

    `temperature` 0 is greedy decoding; above it, tokens are drawn with `seed`.
    """
    torch.manual_seed(seed)
    return answer_in_batches(
        lambda: model, tokenizer, conversations, max_new_tokens=max_new_tokens, temperature=temperature
    )


def answer_in_batches(
    model: Callable[[], Any],
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    recall: Callable[[Any, Callable[[], list[str]]], list[str]] = lambda question, ask: ask(),
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """As `generate_answers`; `model` is only called for a batch that `recall` (lmadapt.answer_cache) does not know.

    Prompts of similar length share a batch, padded on the left; a batch is halved where memory does not suffice.
    `on_batch` is told how many answers each gave. Raises UserError when memory does not suffice for one prompt.
    """
    prompts = [encode_prompt(tokenizer, conversation) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), BATCH_SIZE):
        batch = order[start : start + BATCH_SIZE]
        asked = [prompts[index] for index in batch]
        said = recall(
            ["answer", asked, max_new_tokens, temperature],
            partial(_answer, asked, model, tokenizer, max_new_tokens, temperature),
        )
        for index, answer in zip(batch, said, strict=True):
            answers[index] = answer
        on_batch(len(batch))
    return answers


def _answer(
    prompts: list[list[int]], model: Callable[[], Any], tokenizer: Any, max_new_tokens: int, temperature: float
) -> list[str]:
    try:
        return _decode(prompts, model(), tokenizer, max_new_tokens, temperature)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        if len(prompts) == 1:
            raise UserError(f"not enough memory to answer a prompt of {len(prompts[0])} tokens: {error}") from None
    half = len(prompts) // 2
    return [
        answer
        for part in (prompts[:half], prompts[half:])
        for answer in _answer(part, model, tokenizer, max_new_tokens, temperature)
    ]


def _decode(prompts: list[list[int]], model: Any, tokenizer: Any, max_new_tokens: int, temperature: float) -> list[str]:
    longest = max(map(len, prompts))
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    input_ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts])
    attention_mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    with torch.inference_mode():
        sequences = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            max_new_tokens=max_new_tokens,
            pad_token_id=padding,
            eos_token_id=sorted({end_of_turn(tokenizer), tokenizer.eos_token_id}),
            **sampling,
        )
    texts = tokenizer.batch_decode(sequences[:, longest:], skip_special_tokens=True)
    return [str(text).strip() for text in texts]
