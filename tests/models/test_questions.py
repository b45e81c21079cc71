from itertools import chain
from pathlib import Path

from lmadapt.models.loading import load_tokenizer
from lmadapt.models.questions import choose, encode_document, encode_item


def test_an_item_is_the_rendered_prompt_and_the_choices(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    question = encode_item(tokenizer, "What is the capital of France?", ["Paris", "SQL injection"])
    assert (
        tokenizer.decode(question.context)
        == "<bos>Question: What is the capital of France?\nAnswer:"
    )
    assert [tokenizer.decode(tokens) for tokens in question.continuations] == [
        " Paris",
        " SQL injection",
    ]


def test_the_choice_is_the_likeliest_per_byte() -> None:
    assert choose([-4.0, -6.0], ["abcd", "abcdefgh"]) == 1
    assert choose([-4.0, -4.1], ["äö", "abcd"]) == 0  # four bytes each


def test_windows_score_each_token_of_a_document_once(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    text = " ".join(f"number {n}" for n in range(1200))
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(tokens) > 3000
    windows = encode_document(tokenizer, text)
    assert list(chain.from_iterable(window.continuations[0] for window in windows)) == tokens
    assert all(window.context[0] == tokenizer.bos_token_id for window in windows)
    assert all(len(window.context) + len(window.continuations[0]) <= 1024 for window in windows)
    assert all(len(window.context) > 500 for window in windows[1:])
    assert encode_document(tokenizer, "") == []
