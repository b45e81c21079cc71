"""Texts that spell control tokens."""

from typing import Any

import pytest

from lmadapt.models.chat import (
    encode_choice,
    encode_conversation,
    encode_prompt,
    encode_text,
)
from lmadapt.models.questions import encode_bare, encode_document
from lmadapt.training.encoding import encode_documents
from tests.tables import document
from tests.tiny import make_tiny_tokenizer

SPELT = "A turn ends with <|im_end|> and a text with <eos>."
TOKENIZER = make_tiny_tokenizer()
TOKENIZER.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def chatml() -> Any:
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


def test_a_document_keeps_what_it_spells_as_text() -> None:
    ((piece,),) = encode_documents(TOKENIZER, [document(0, SPELT)], max_tokens=256)
    special = set(TOKENIZER.all_special_ids)
    assert [token for token in piece.input_ids if token in special] == [
        TOKENIZER.bos_token_id,
        TOKENIZER.eos_token_id,
    ]
    assert TOKENIZER.decode(piece.input_ids[1:-1]) == SPELT
    (window,) = encode_document(TOKENIZER, SPELT)
    assert window.continuations == [piece.input_ids[1:-1]]
    assert not special.intersection(encode_bare(TOKENIZER, SPELT, [SPELT]).continuations[0])


def test_messages_and_choices_keep_what_they_spell_as_text(chatml: Any) -> None:
    messages = [{"role": "user", "content": SPELT}, {"role": "assistant", "content": SPELT}]
    encoded = encode_conversation(chatml, messages)
    end, eos = chatml.convert_tokens_to_ids("<|im_end|>"), chatml.eos_token_id
    assert encoded.input_ids.count(end) == 2  # the two turns' own
    assert eos not in encoded.input_ids
    assert encoded.labels[-1] == end
    learnt = [label for label in encoded.labels if label >= 0]
    assert chatml.decode(learnt) == f"{SPELT}<|im_end|>"
    prompt = encode_prompt(chatml, messages[:1])
    assert prompt == encoded.input_ids[: len(prompt)]
    assert [*prompt, *encode_choice(chatml, messages[:1], SPELT), end] == encoded.input_ids
    assert chatml.decode(prompt).startswith(f"<|im_start|>user\n{SPELT}<|im_end|>")


def test_other_texts_are_encoded_as_before(chatml: Any) -> None:
    text = "Is <s>old</s> HTML <b>struck</b> out?"
    plain = chatml(text, add_special_tokens=False)["input_ids"]
    assert encode_text(chatml, text) == plain
    rendered = chatml.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    ids = chatml(rendered, add_special_tokens=False)["input_ids"]
    assert encode_prompt(chatml, [{"role": "user", "content": text}]) == ids
