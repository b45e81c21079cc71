"""Answers to conversations, in batches; greedy unless a temperature is given."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lmadapt.chat import Message, encode_prompt, end_of_turn


def generate_answers(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 8,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """What the assistant says next in each conversation, in the given order, stripped of white space.

    Prompts of similar length share a batch, padded on the left. `temperature` 0 is greedy decoding; above it,
    tokens are drawn with `seed`. `on_batch` is told how many answers each finished batch gave.
    """
    prompts = [encode_prompt(tokenizer, conversation) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    torch.manual_seed(seed)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for index, answer in zip(
            batch, _answer([prompts[i] for i in batch], model, tokenizer, max_new_tokens, temperature), strict=True
        ):
            answers[index] = answer
        on_batch(len(batch))
    return answers


def _answer(prompts: list[list[int]], model: Any, tokenizer: Any, max_new_tokens: int, temperature: float) -> list[str]:
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
