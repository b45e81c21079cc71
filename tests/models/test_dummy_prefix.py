"""Tokenizers that put a space before each text, as those of Llama 2 and Mistral 7B v0.1 do."""

from typing import Any

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from lmadapt.models.chat import IGNORED, encode_choice, encode_conversation, encode_prompt
from lmadapt.models.questions import encode_bare, encode_item
from tests.tiny import TEXT

CHAT = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris"},
    {"role": "user", "content": "And of Italy?"},
    {"role": "assistant", "content": "Rome"},
]
PLAIN = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}{{ 'Question: ' + m.content + '\n' }}"
    "{% else %}{{ 'Answer: ' + m.content + '</s>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
LINES = PLAIN.replace("'Answer: '", "'Answer:\n'").replace("Answer:{%", "Answer:\n{%")


def make_tokenizer(template: str) -> Any:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    # No token spans words or lines, as in SentencePiece's vocabularies.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("\u2581|\n"), "merged_with_next")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(
        [*TEXT, "And of Italy? Rome. Where? It is here. <s></s>"], trainer
    )
    added = [AddedToken(one, special=True, normalized=False) for one in special]
    tokenizer.add_special_tokens(added)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = template
    return fast


def served(tokenizer: Any, messages: list[dict[str, str]], *, prompt: bool) -> list[int]:
    """The tokens that a server makes of a conversation, in one piece."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("template", [PLAIN, LINES])
def test_training_and_choices_have_the_tokens_that_a_server_makes(template: str) -> None:
    tokenizer = make_tokenizer(template)
    encoded = encode_conversation(tokenizer, CHAT)
    whole = served(tokenizer, CHAT, prompt=False)
    assert encoded.input_ids == whole[: len(encoded.input_ids)]
    assert tokenizer.convert_ids_to_tokens(whole[len(encoded.input_ids) :]) in (
        ["▁", "\n"],
        ["▁\n"],
    )
    for end in (1, 3):
        prompt = encode_prompt(tokenizer, CHAT[:end])
        assert prompt == served(tokenizer, CHAT[:end], prompt=True)
        answer = encode_choice(tokenizer, CHAT[:end], CHAT[end]["content"])
        assert [*prompt, *answer] == encoded.input_ids[: len(prompt) + len(answer)]
        assert tokenizer.convert_ids_to_tokens(answer)[0] != "▁"
        assert set(encoded.labels[len(prompt) : len(prompt) + len(answer)]).isdisjoint({IGNORED})


def test_no_stray_space_carries_loss_or_is_scored() -> None:
    tokenizer = make_tokenizer(LINES)
    encoded = encode_conversation(tokenizer, CHAT[:2])
    learnt = [label for label in encoded.labels if label != IGNORED]
    assert "".join(tokenizer.convert_ids_to_tokens(learnt)) == "Paris</s>"
    for question in (
        encode_item(tokenizer, "Where?", ["Paris", "Rome"]),
        encode_bare(tokenizer, "Where?", ["Paris", "Rome"]),
    ):
        texts = ["".join(tokenizer.convert_ids_to_tokens(ids)) for ids in question.continuations]
        assert texts == ["Paris", "Rome"]


def test_a_control_token_that_an_answer_spells_brings_no_stray_space() -> None:
    tokenizer = make_tokenizer(LINES)
    messages = [CHAT[0], {"role": "assistant", "content": "It is </s> here"}]
    encoded = encode_conversation(tokenizer, messages)
    learnt = tokenizer.convert_ids_to_tokens([one for one in encoded.labels if one != IGNORED])
    assert "▁" not in learnt[:1]
    assert learnt.count("</s>") == 1
