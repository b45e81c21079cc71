"""Answers to conversations, in batches or as a stream; greedy unless a temperature is given."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from lmadapt.core.errors import UserError
from lmadapt.models.chat import Message, encode_prompt, end_of_turn

BATCH_SIZE = 8  # prompts answered at once


def generate_answers(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    seed: int = 0,
    **options: Any,
) -> list[str]:
    """What the assistant says next in each conversation, in the given order, stripped of white space.

    `seed` is that of drawn tokens; `options`: those of `answer_in_batches`.
    """
    torch.manual_seed(seed)
    return answer_in_batches(lambda: model, tokenizer, conversations, **options)


def answer_in_batches(
    model: Callable[[], Any],
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    stop: Sequence[str] = (),
    streamer: Any = None,
    recall: Callable[[Any, Callable[[], list[str]]], list[str]] = lambda question, ask: ask(),
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """As `generate_answers`; `model` is only called for a batch that `recall` (lmadapt.evaluation.answer_cache) does not know.

    Prompts of similar length share a batch, padded on the left; a batch is halved where memory does not suffice.
    `temperature` 0 is greedy decoding. An answer ends before the first of the texts `stop`. `streamer` is one of
    transformers, for a single conversation. `on_batch` is told how many answers each finished batch gave.
    Raises UserError when memory does not suffice for one prompt.
    """
    prompts = [encode_prompt(tokenizer, conversation) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "streamer": streamer}
    options |= (
        {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    )
    options |= {"stop_strings": list(stop), "tokenizer": tokenizer} if stop else {}
    for start in range(0, len(order), BATCH_SIZE):
        batch = order[start : start + BATCH_SIZE]
        asked = [prompts[index] for index in batch]
        question = ["answer", asked, max_new_tokens, temperature, list(stop)]
        said = recall(question, partial(_answer, asked, model, tokenizer, options))
        for index, answer in zip(batch, said, strict=True):
            answers[index] = _until(answer, stop).strip()
        on_batch(len(batch))
    return answers


def stream_answer(
    model: Any, tokenizer: Any, conversation: Sequence[Message], **options: Any
) -> Iterator[str]:
    """The answer `generate_answers` gives with these options, in pieces as they are generated; errors are raised."""
    from transformers import TextIteratorStreamer

    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    stop = options.get("stop", ())
    said, sent, held = "", 0, max(map(len, stop), default=1) - 1
    with ThreadPoolExecutor() as pool:
        done = pool.submit(
            generate_answers, model, tokenizer, [conversation], streamer=streamer, **options
        )
        done.add_done_callback(lambda _: streamer.text_queue.put(streamer.stop_signal))
        for piece in streamer:
            said = (said + piece).lstrip()
            whole = _until(said, stop)
            ready = whole[: None if len(whole) < len(said) else max(0, len(said) - held)]
            yield ready[sent:]
            sent = max(sent, len(ready))
    done.result()
    yield _until(said, stop)[sent:]


def _answer(
    prompts: list[list[int]], model: Callable[[], Any], tokenizer: Any, options: dict[str, Any]
) -> list[str]:
    try:
        return _decode(prompts, model(), tokenizer, options)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        if len(prompts) == 1:
            raise UserError(
                f"not enough memory to answer a prompt of {len(prompts[0])} tokens: {error}"
            ) from None
    half = len(prompts) // 2
    halves = (prompts[:half], prompts[half:])
    return [answer for part in halves for answer in _answer(part, model, tokenizer, options)]


def _decode(
    prompts: list[list[int]], model: Any, tokenizer: Any, options: dict[str, Any]
) -> list[str]:
    return list(
        tokenizer.batch_decode(
            continuations(prompts, model, tokenizer, options), skip_special_tokens=True
        )
    )


def continuations(
    prompts: list[list[int]],
    model: Any,
    tokenizer: Any,
    options: Mapping[str, Any],
    ends: Iterable[int] = (),
) -> list[list[int]]:
    """The tokens that `model.generate`, with `options`, puts after each prompt; padded behind the first end token.

    A continuation ends with the tokenizer's end token, that of a turn, or one of `ends`.
    """
    longest = max(map(len, prompts))
    padding = (
        tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    )
    input_ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts])
    attention_mask = torch.tensor(
        [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    )
    with torch.inference_mode():
        sequences = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            pad_token_id=padding,
            eos_token_id=sorted({end_of_turn(tokenizer), tokenizer.eos_token_id, *ends}),
            **options,
        )
    return list(sequences[:, longest:].tolist())


def _until(text: str, stop: Sequence[str]) -> str:
    return text[: min((text.index(end) for end in stop if end in text), default=len(text))]
