"""Rows that validation tolerates and that no chat template can encode."""

import logging

import pytest

from lmadapt.core.errors import UserError
from lmadapt.training.encoding import encode_instructions
from tests.tables import instruction
from tests.tiny import make_tiny_tokenizer

NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<pad>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def test_rows_that_the_template_refuses_are_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = NO_SYSTEM
    sound = [instruction(number, "What is the capital?", "Paris") for number in range(3)]
    refused = instruction(7, "Who?", "I")
    refused["messages"] = [{"role": "system", "content": "Be brief."}, *refused["messages"]]
    with caplog.at_level(logging.WARNING):
        encoded = encode_instructions(tokenizer, [refused, *sound], max_tokens=64)
    assert (len(encoded.fitting), encoded.too_long, encoded.unusable) == (3, 0, 1)
    assert "1 instructions are left out, such as instruction made/7 (made, 7)" in caplog.text
    assert "System role not supported" in caplog.text
    with pytest.raises(UserError, match=r"^instruction made/7 \(made, 7\): System role not"):
        encode_instructions(tokenizer, [refused], max_tokens=64)
