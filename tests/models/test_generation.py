from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.evaluation.answer_cache import AnswerCache
from lmadapt.models import generation
from lmadapt.models.generation import answer_in_batches, generate_answers, stream_answer
from lmadapt.models.loading import load_bf16, load_tokenizer

PROMPTS = [
    "What is the capital of France?",
    "Numbers",
    "Which weakness reads a buffer before checking its length?",
]
CONVERSATIONS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]


def test_answers_are_in_the_order_of_the_questions_whatever_the_batch(tiny_model: Path) -> None:
    model, tokenizer = load_bf16(tiny_model).float(), load_tokenizer(tiny_model)
    alone = [generate_answers(model, tokenizer, [c], max_new_tokens=6)[0] for c in CONVERSATIONS]
    together = generate_answers(model, tokenizer, CONVERSATIONS, max_new_tokens=6)
    assert together == alone
    assert len(set(together)) == len(PROMPTS)


def test_sampling_depends_on_the_seed_and_greedy_decoding_does_not(tiny_model: Path) -> None:
    model, tokenizer = load_bf16(tiny_model), load_tokenizer(tiny_model)

    def answer(temperature: float, seed: int) -> str:
        return generate_answers(
            model,
            tokenizer,
            CONVERSATIONS[:1],
            max_new_tokens=8,
            temperature=temperature,
            seed=seed,
        )[0]

    assert answer(0.0, 1) == answer(0.0, 2)
    assert answer(1.5, 1) == answer(1.5, 1)
    assert answer(1.5, 1) != answer(1.5, 2)


def test_the_number_of_new_tokens_is_bounded(tiny_model: Path) -> None:
    model, tokenizer = load_bf16(tiny_model), load_tokenizer(tiny_model)
    short, long = (
        generate_answers(model, tokenizer, CONVERSATIONS, max_new_tokens=tokens)
        for tokens in (2, 20)
    )
    assert all(len(few) < len(many) for few, many in zip(short, long, strict=True))


def test_batches_are_reported_cached_and_halved_when_memory_runs_out(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_bf16(tiny_model).float(), load_tokenizer(tiny_model)
    alone = generate_answers(model, tokenizer, CONVERSATIONS, max_new_tokens=6)
    sizes, done, plain = [], [], generation._decode

    def decode(prompts: list[list[int]], *rest: Any) -> list[str]:
        sizes.append(len(prompts))
        if len(prompts) > 1:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
            )
        return plain(prompts, *rest)

    monkeypatch.setattr(generation, "_decode", decode)
    monkeypatch.setattr(generation, "BATCH_SIZE", 2)
    cache = AnswerCache(Path(":memory:"), "tiny")
    for _ in range(2):
        said = answer_in_batches(
            lambda: model,
            tokenizer,
            CONVERSATIONS,
            max_new_tokens=6,
            recall=cache.recall,
            on_batch=done.append,
        )
        assert said == alone
    assert sizes == [2, 1, 1, 1]
    assert done == [2, 1, 2, 1]


def test_a_single_prompt_that_does_not_fit_into_memory_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_bf16(tiny_model), load_tokenizer(tiny_model)
    full = RuntimeError("CUDA out of memory. Tried to allocate 9 GiB.")
    monkeypatch.setattr(model, "generate", lambda **named: (_ for _ in ()).throw(full))
    with pytest.raises(UserError, match="not enough memory to answer a prompt of"):
        generate_answers(model, tokenizer, CONVERSATIONS[:1], max_new_tokens=6)


def test_a_stream_is_the_same_answer_in_pieces(tiny_model: Path) -> None:
    model, tokenizer = load_bf16(tiny_model), load_tokenizer(tiny_model)
    options = {"max_new_tokens": 20, "temperature": 1.5, "seed": 3}
    pieces = list(stream_answer(model, tokenizer, CONVERSATIONS[0], **options))
    whole = generate_answers(model, tokenizer, CONVERSATIONS[:1], **options)[0]  # type: ignore[arg-type]
    assert "".join(pieces).strip() == whole
    assert len([piece for piece in pieces if piece]) > 1


def test_an_answer_ends_before_the_first_stop_text_whether_streamed_or_not(
    tiny_model: Path,
) -> None:
    model, tokenizer = load_bf16(tiny_model), load_tokenizer(tiny_model)
    whole = generate_answers(model, tokenizer, CONVERSATIONS[:1], max_new_tokens=20)[0]
    stop = [whole[9:12], "never said"]
    expected = whole[: whole.index(stop[0])].strip()
    assert expected != whole
    assert (
        generate_answers(model, tokenizer, CONVERSATIONS[:1], max_new_tokens=20, stop=stop)[0]
        == expected
    )
    streamed = "".join(
        stream_answer(model, tokenizer, CONVERSATIONS[0], max_new_tokens=20, stop=stop)
    )
    assert streamed.strip() == expected


def test_an_error_in_a_stream_is_raised(tiny_model: Path) -> None:
    model, tokenizer = load_bf16(tiny_model), load_tokenizer(tiny_model)
    with pytest.raises(ValueError, match="max_new_tokens"):
        list(stream_answer(model, tokenizer, CONVERSATIONS[0], max_new_tokens=0))
