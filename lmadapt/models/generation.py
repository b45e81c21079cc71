"""Answers to conversations, in batches or as a stream. Decoding is greedy without a temperature."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from lmadapt.core.errors import UserError
from lmadapt.models.chat import Message, encode_prompt, end_of_turn

BATCH_SIZE = 8  # prompts in one call of the model


def generate_answers(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    seed: int = 0,
    **options: Any,
) -> list[str]:
    """What the assistant says next in each conversation, in the given order.

    White space around an answer is removed. `seed` decides which tokens are drawn when a
    temperature is given; `options` go to `answer_in_batches`.
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
    """As `generate_answers`, for a model that is loaded only when it is needed.

    Prompts of similar length share a batch, padded on the left; a batch that does not fit into
    memory is halved. `model` is called only for a batch that `recall` does not know (see
    lmadapt.evaluation.answer_cache). `temperature` 0 is greedy decoding. An answer ends before the
    first of the texts `stop`. `streamer` is one of transformers, for a single conversation.
    `on_batch` gets the number of answers of each finished batch.
    Raises UserError when a single prompt does not fit into memory.
    """
    prompts = [encode_prompt(tokenizer, conversation) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "streamer": streamer,
        "do_sample": temperature > 0,
    }
    if temperature > 0:
        options["temperature"] = temperature
    if stop:
        options |= {"stop_strings": list(stop), "tokenizer": tokenizer}
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
    """The answer that `generate_answers` gives with these options, piece by piece.

    An error in generation is raised after the pieces that came before it.
    """
    from transformers import TextIteratorStreamer

    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    stop = options.get("stop", ())
    said, sent = "", 0
    held = max(map(len, stop), default=1) - 1  # the last characters may start a stop text
    with ThreadPoolExecutor() as pool:
        done = pool.submit(
            generate_answers, model, tokenizer, [conversation], streamer=streamer, **options
        )
        done.add_done_callback(lambda _: streamer.text_queue.put(streamer.stop_signal))
        for piece in streamer:
            said = (said + piece).lstrip()
            ready = _until(said, stop)
            if len(ready) == len(said):
                ready = said[: max(0, len(said) - held)]
            yield ready[sent:]
            sent = max(sent, len(ready))
    done.result()
    yield _until(said, stop)[sent:]


def _answer(
    prompts: list[list[int]], model: Callable[[], Any], tokenizer: Any, options: dict[str, Any]
) -> list[str]:
    """As `_decode`, halving the batch when memory is short."""
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
    first = _answer(prompts[:half], model, tokenizer, options)
    return first + _answer(prompts[half:], model, tokenizer, options)


def _decode(
    prompts: list[list[int]], model: Any, tokenizer: Any, options: dict[str, Any]
) -> list[str]:
    end = end_of_turn(tokenizer)  # not special in every vocabulary
    rows = continuations(prompts, model, tokenizer, options)
    said = [row[: row.index(end)] if end in row else row for row in rows]
    return list(tokenizer.batch_decode(said, skip_special_tokens=True))


def continuations(
    prompts: list[list[int]],
    model: Any,
    tokenizer: Any,
    options: Mapping[str, Any],
    ends: Iterable[int] = (),
) -> list[list[int]]:
    """The token ids that `model.generate` puts after each prompt, called with `options`.

    A continuation ends with the tokenizer's end token, the end-of-turn token or one of `ends`;
    shorter ones are padded after it.
    """
    longest = max(map(len, prompts))
    # The attention mask hides it. The tokenizer's own may be missing or beyond the embeddings.
    padding = end_of_turn(tokenizer)
    ends = {padding, tokenizer.eos_token_id, *ends} - {None}
    missing = [longest - len(prompt) for prompt in prompts]
    rows = list(zip(missing, prompts, strict=True))
    input_ids = torch.tensor([[padding] * count + prompt for count, prompt in rows])
    attention_mask = torch.tensor([[0] * count + [1] * len(prompt) for count, prompt in rows])
    with torch.inference_mode():
        sequences = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            pad_token_id=padding,
            eos_token_id=sorted(ends),
            **options,
        )
    return list(sequences[:, longest:].tolist())


def _until(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the texts `stop`."""
    return text[: min((text.index(end) for end in stop if end in text), default=len(text))]
