"""Tables to training examples: whole documents, and instructions with loss on the answers only."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.models.chat import Encoded, encode_conversation
from lmadapt.training.packing import split_document
from lmadapt.training.replay import Document

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedInstructions:
    """The instructions to train on, and how many were left out."""

    fitting: list[Document]
    too_long: int
    unusable: int  # the chat template or the tokenizer could not encode them


def encode_documents(
    tokenizer: Any, rows: Sequence[dict[str, Any]], *, max_tokens: int
) -> list[Document]:
    """The text of each row in pieces of `max_tokens`, between the tokenizer's start and end tokens.

    A tokenizer without a start or end token adds none. A control token that a text spells is text.
    """
    if not rows:
        return []
    before = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    after = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    texts = [row["text"] for row in rows]
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)[
        "input_ids"
    ]
    documents: list[Document] = []
    for tokens, row in zip(encoded, rows, strict=True):
        ids = [*before, *tokens, *after]
        document = Encoded(ids, ids, source=row["source"])
        documents.append(split_document(document, max_tokens=max_tokens))
    return documents


def encode_instructions(
    tokenizer: Any, rows: Sequence[dict[str, Any]], *, max_tokens: int
) -> EncodedInstructions:
    """The encoded rows of an instruction table, without those that cannot be trained on.

    A row that the chat template or the tokenizer cannot encode is left out, as the stage validate
    has counted it against `max_failing_fraction`. So is a row of over `max_tokens`.
    Raises UserError where no row remains; it names id, source and location of the first.
    """
    encoded: list[Encoded] = []
    problems: list[str] = []
    for row in rows:
        try:
            example = encode_conversation(tokenizer, row["messages"])
        except Exception as error:  # a chat template is a program of the model's author
            where = f"{row['id']} ({row['source']}, {row['location']})"
            problems.append(f"instruction {where}: {error}")
        else:
            encoded.append(replace(example, source=row["source"]))
    if problems and not encoded:
        raise UserError(problems[0])
    if problems:
        log.warning("%d instructions are left out, such as %s", len(problems), problems[0])
    fitting: list[Document] = [
        [example] for example in encoded if len(example.input_ids) <= max_tokens
    ]
    if rows and not fitting:
        shortest = min(len(example.input_ids) for example in encoded)
        raise UserError(
            f"max_sequence_tokens is {max_tokens}, and each of the {len(encoded)} instructions "
            f"from {rows[0]['source']} is longer; it must be at least {shortest} for the shortest"
        )
    return EncodedInstructions(fitting, len(encoded) - len(fitting), len(problems))
