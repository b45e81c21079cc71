"""Tables to training examples: whole documents, and instructions with loss on the answers only."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.models.chat import Encoded, encode_conversation
from lmadapt.training.packing import split_document
from lmadapt.training.replay import Document


def encode_documents(
    tokenizer: Any, rows: Sequence[dict[str, Any]], *, max_tokens: int
) -> list[Document]:
    """The text of each row in pieces of `max_tokens`, between the tokenizer's start and end tokens.

    A tokenizer without a start or end token adds none.
    """
    if not rows:
        return []
    before = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    after = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    texts = [row["text"] for row in rows]
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    documents: list[Document] = []
    for tokens, row in zip(encoded, rows, strict=True):
        ids = [*before, *tokens, *after]
        document = Encoded(ids, ids, source=row["source"])
        documents.append(split_document(document, max_tokens=max_tokens))
    return documents


def encode_instructions(
    tokenizer: Any, rows: Sequence[dict[str, Any]], *, max_tokens: int
) -> tuple[list[Document], int]:
    """The encoded rows of an instruction table, and how many of over `max_tokens` were left out.

    Raises UserError with id, source and location of a row that cannot be encoded, and where all
    rows are too long.
    """
    encoded = [_encode(tokenizer, row) for row in rows]
    fitting: list[Document] = [
        [example] for example in encoded if len(example.input_ids) <= max_tokens
    ]
    if rows and not fitting:
        shortest = min(len(example.input_ids) for example in encoded)
        raise UserError(
            f"max_sequence_tokens is {max_tokens}, and each of the {len(rows)} instructions from "
            f"{rows[0]['source']} is longer; it must be at least {shortest} for the shortest"
        )
    return fitting, len(encoded) - len(fitting)


def _encode(tokenizer: Any, row: dict[str, Any]) -> Encoded:
    try:
        return replace(encode_conversation(tokenizer, row["messages"]), source=row["source"])
    except UserError as error:
        raise UserError(
            f"instruction {row['id']} ({row['source']}, {row['location']}): {error}"
        ) from None
