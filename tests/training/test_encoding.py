from itertools import chain

import pytest

from lmadapt.core.errors import UserError
from lmadapt.training.encoding import encode_documents, encode_instructions
from tests.tables import document, instruction
from tests.tiny import make_tiny_tokenizer

TOKENIZER = make_tiny_tokenizer()


def test_a_document_stands_between_begin_and_end_tokens() -> None:
    ((piece,),) = encode_documents(TOKENIZER, [document(0, "An attacker.")], max_tokens=64)
    assert piece.input_ids[0] == TOKENIZER.bos_token_id
    assert piece.input_ids[-1] == TOKENIZER.eos_token_id
    assert TOKENIZER.decode(piece.input_ids[1:-1]) == "An attacker."
    assert piece.labels == piece.input_ids


def test_a_long_document_is_split_and_nothing_is_lost() -> None:
    text = "The application reads a buffer. " * 20
    ((whole,),) = encode_documents(TOKENIZER, [document(0, text)], max_tokens=4096)
    (pieces,) = encode_documents(TOKENIZER, [document(0, text)], max_tokens=32)
    assert len(pieces) > 3
    predicted = chain.from_iterable(piece.labels[1:] for piece in pieces)
    assert list(predicted) == whole.labels[1:]


def test_only_the_answer_and_its_end_carry_loss() -> None:
    rows = [instruction(0, "What is the capital of France?", "Paris")]
    ((example,),) = encode_instructions(TOKENIZER, rows, max_tokens=64).fitting
    supervised = [label for label in example.labels if label >= 0]
    assert TOKENIZER.decode(supervised) == " Paris<eos>"
    assert len(supervised) < len(example.labels)


def test_too_long_instructions_are_left_out_whole_and_counted() -> None:
    rows = [instruction(0, "Short?", "Yes"), instruction(1, "What is long? " * 50, "This")]
    encoded = encode_instructions(TOKENIZER, rows, max_tokens=40)
    assert (len(encoded.fitting), encoded.too_long, encoded.unusable) == (1, 1, 0)


def test_where_all_are_too_long_the_error_names_the_length_needed() -> None:
    rows = [instruction(1, "What is long? " * 50, "This")]
    with pytest.raises(UserError, match=r"max_sequence_tokens is 40.*must be at least \d\d\d"):
        encode_instructions(TOKENIZER, rows, max_tokens=40)


def test_the_error_names_an_instruction_that_cannot_be_encoded() -> None:
    unanswered = {
        **instruction(7, "What?", "This"),
        "messages": [{"role": "user", "content": "What?"}],
    }
    with pytest.raises(UserError, match=r"instruction made/7 \(made, 7\): zero supervised tokens"):
        encode_instructions(TOKENIZER, [unanswered], max_tokens=40)
