import pytest

from lmadapt.core.errors import UserError
from lmadapt.models.chat import (
    IGNORED,
    encode_choice,
    encode_conversation,
    encode_prompt,
    end_of_turn,
)
from tests.tiny import make_tiny_tokenizer

CAPITAL = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris"},
]
CHATML = (
    "{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + eos_token + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def supervised(tokenizer, encoded) -> str:  # type: ignore[no-untyped-def]
    return tokenizer.decode([label for label in encoded.labels if label != IGNORED])


def test_only_the_answer_and_its_end_carry_loss() -> None:
    tokenizer = make_tiny_tokenizer()
    assert supervised(tokenizer, encode_conversation(tokenizer, CAPITAL)) == " Paris<eos>"


def test_every_turn_of_the_assistant_is_supervised() -> None:
    tokenizer = make_tiny_tokenizer()
    again = [{"role": "user", "content": "And of Italy?"}, {"role": "assistant", "content": "Rome"}]
    encoded = encode_conversation(tokenizer, CAPITAL + again)
    assert supervised(tokenizer, encoded) == " Paris<eos> Rome<eos>"
    assert tokenizer.decode(encoded.input_ids) == (
        "<bos>Question: What is the capital of France?\nAnswer: Paris<eos>\n"
        "Question: And of Italy?\nAnswer: Rome<eos>"
    )


def test_what_follows_the_end_of_a_turn_is_not_supervised() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = CHATML
    encoded = encode_conversation(tokenizer, CAPITAL)
    assert supervised(tokenizer, encoded) == "Paris<eos>"


def test_the_end_of_a_turn_is_supervised_even_if_the_template_has_none() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = CHATML.replace(" + eos_token", "")
    assert supervised(tokenizer, encode_conversation(tokenizer, CAPITAL)).endswith("<eos>")


def test_training_and_inference_use_the_same_tokens() -> None:
    tokenizer = make_tiny_tokenizer()
    encoded = encode_conversation(tokenizer, CAPITAL)
    prompt = encode_prompt(tokenizer, CAPITAL[:1])
    choice = encode_choice(tokenizer, CAPITAL[:1], "Paris")
    assert encoded.input_ids == [*prompt, *choice, tokenizer.eos_token_id]


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(UserError, match="message 2, of the assistant, is empty"):
        encode_conversation(
            make_tiny_tokenizer(), [CAPITAL[0], {"role": "assistant", "content": " "}]
        )


def test_a_conversation_without_an_assistant_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"zero supervised tokens in a conversation with roles \['user'\]"
    ):
        encode_conversation(make_tiny_tokenizer(), CAPITAL[:1])


def test_a_template_that_omits_the_answer_is_refused() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}"
        "{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}"
        "{% endfor %}"
    )
    with pytest.raises(UserError, match="leaves out or rewrites the answer 'Paris'"):
        encode_conversation(tokenizer, CAPITAL)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template"):
        encode_prompt(tokenizer, CAPITAL[:1])


THINKING = (
    "{% for m in messages %}{{ '<bos>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<pad>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<bos>assistant\n' }}{% endif %}"
)


def test_words_that_the_template_puts_before_an_answer_are_part_of_the_prompt() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = THINKING
    assert tokenizer.decode(encode_prompt(tokenizer, CAPITAL[:1])).endswith(
        "<think>\n\n</think>\n\n"
    )
    assert tokenizer.decode(encode_choice(tokenizer, CAPITAL[:1], "Paris")) == "Paris"


def test_a_turn_ends_with_the_token_of_the_template_if_it_has_one() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = THINKING
    assert end_of_turn(tokenizer) == tokenizer.pad_token_id
    encoded = encode_conversation(tokenizer, CAPITAL + CAPITAL)
    assert supervised(tokenizer, encoded) == "Paris<pad>Paris<pad>"
    assert tokenizer.eos_token_id not in encoded.input_ids


def test_an_answer_that_spells_the_end_token_is_not_cut_there() -> None:
    tokenizer = make_tiny_tokenizer()
    asked = [CAPITAL[0], {"role": "assistant", "content": "It is <eos> in this vocabulary"}]
    assert (
        supervised(tokenizer, encode_conversation(tokenizer, asked))
        == " It is <eos> in this vocabulary<eos>"
    )
