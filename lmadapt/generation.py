"""Answers to conversations, in batches or as a stream; greedy unless a temperature is given."""

from collections.abc import Callable, Iterator, Sequence
from threading import Thread
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
    stop: Sequence[str] = (),
    batch_size: int = 8,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """What the assistant says next in each conversation, in the given order, stripped of white space.

    Prompts of similar length share a batch, padded on the left. `temperature` 0 is greedy decoding; above it,
    tokens are drawn with `seed`. An answer ends before the first of the texts `stop`. `on_batch` is told how many
    answers each finished batch gave.
    """
    prompts = [encode_prompt(tokenizer, conversation) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    options = _options(tokenizer, max_new_tokens, temperature, stop)
    answers = [""] * len(prompts)
    torch.manual_seed(seed)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        said = _answer([prompts[i] for i in batch], model, tokenizer, options)
        for index, answer in zip(batch, said, strict=True):
            answers[index] = _until(answer, stop).strip()
        on_batch(len(batch))
    return answers


def stream_answer(
    model: Any,
    tokenizer: Any,
    conversation: Sequence[Message],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """The same answer as `generate_answers` gives, white space around it aside, in pieces as they are generated."""
    from transformers import TextIteratorStreamer

    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=None)
    options = _options(tokenizer, max_new_tokens, temperature, stop) | {"streamer": streamer}
    prompt = encode_prompt(tokenizer, conversation)

    def generate() -> None:
        try:
            torch.manual_seed(seed)
            _answer([prompt], model, tokenizer, options)
        except BaseException as error:
            streamer.text_queue.put(error)

    Thread(target=generate, daemon=True).start()
    said = sent = ""
    for piece in iter(streamer.text_queue.get, streamer.stop_signal):
        if isinstance(piece, BaseException):
            raise piece
        said += piece
        safe = _until(said, stop) if any(text in said for text in stop) else said[: len(said) - _held(said, stop)]
        if len(safe) > len(sent):
            yield safe[len(sent) :]
            sent = safe
    if rest := _until(said, stop)[len(sent) :]:
        yield rest


def _options(tokenizer: Any, max_new_tokens: int, temperature: float, stop: Sequence[str]) -> dict[str, Any]:
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    ending = {"stop_strings": list(stop), "tokenizer": tokenizer} if stop else {}
    ends = sorted({end_of_turn(tokenizer), tokenizer.eos_token_id})
    return {"max_new_tokens": max_new_tokens, "eos_token_id": ends, **sampling, **ending}


def _answer(prompts: list[list[int]], model: Any, tokenizer: Any, options: dict[str, Any]) -> list[str]:
    longest = max(map(len, prompts))
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    input_ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts])
    attention_mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        sequences = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            pad_token_id=padding,
            **options,
        )
    return list(tokenizer.batch_decode(sequences[:, longest:], skip_special_tokens=True))


def _until(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the texts `stop`."""
    return text[: min([text.index(end) for end in stop if end in text], default=len(text))]


def _held(text: str, stop: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a text of `stop`."""
    lengths = (size for end in stop for size in range(1, len(end)) if text.endswith(end[:size]))
    return max(lengths, default=0)
