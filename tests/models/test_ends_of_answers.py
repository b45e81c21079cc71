"""What a template puts between an answer and its end."""

from typing import Any

import pytest
import torch

from lmadapt.models import generation
from lmadapt.models.chat import IGNORED, encode_conversation, end_of_turn
from tests.tiny import make_tiny_tokenizer

ASKED = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Paris"}]
TWICE = ASKED * 2


def chatml(ending: str) -> str:
    return (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}"
        + ending
        + "\n{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )


@pytest.fixture
def tokenizer() -> Any:
    made = make_tiny_tokenizer()
    made.add_tokens(["<end_of_turn>", "\n\n"])  # as Gemma has them: added, and not special
    return made


def learnt(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    encoded = encode_conversation(tokenizer, messages)
    return str(tokenizer.decode([label for label in encoded.labels if label != IGNORED]))


@pytest.mark.parametrize("between", ["\n", " \n", "\nDone.", "</answer>"])
def test_text_before_the_end_token_carries_loss(tokenizer: Any, between: str) -> None:
    tokenizer.chat_template = chatml(between + "<eos>")
    assert learnt(tokenizer, TWICE) == f"Paris{between}<eos>" * 2
    whole = tokenizer.apply_chat_template(TWICE, tokenize=False)
    encoded = encode_conversation(tokenizer, TWICE)
    assert tokenizer.decode(encoded.input_ids) == whole.removesuffix("\n")


def test_an_end_token_that_is_not_special_is_kept(tokenizer: Any) -> None:
    tokenizer.chat_template = chatml("<end_of_turn>")
    assert learnt(tokenizer, TWICE) == "Paris<end_of_turn>" * 2
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids("<end_of_turn>")
    tokenizer.chat_template = chatml("<end_of_turn>\n<eos>")
    assert learnt(tokenizer, ASKED) == "Paris<end_of_turn>\n<eos>"


def test_white_space_that_is_an_added_token_ends_nothing(tokenizer: Any) -> None:
    tokenizer.chat_template = chatml("\n\n")
    assert learnt(tokenizer, ASKED) == "Paris<eos>"


def test_an_end_token_that_is_not_special_is_no_part_of_an_answer(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.chat_template = chatml("<end_of_turn>")
    end = end_of_turn(tokenizer)
    said = tokenizer("Paris", add_special_tokens=False)["input_ids"]
    rows = [[*said, end, end], [*said, *said, *said][: len(said) + 2]]
    monkeypatch.setattr(generation, "continuations", lambda *_: rows)
    first, second = generation._decode([], torch.nn.Identity(), tokenizer, {})
    assert first == "Paris"
    assert second.startswith("Paris")
