"""The registered model as MLflow runs it: what the version ships, over the base it refers to.

MLflow executes this file ("models from code") where the version is loaded, with the version's own copy of lmadapt.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from lmadapt.base_reference import BaseReference, locate_base
from lmadapt.chat import Message
from lmadapt.errors import UserError
from lmadapt.files import folder_sha256
from lmadapt.generation import generate_answers, stream_answer
from lmadapt.shipping import load_shipped


class AdaptedModel(mlflow.pyfunc.PythonModel):
    """Prompts in, answers out; `model` and `tokenizer` are there for whoever wants more than answers."""

    def load_context(self, context: Any) -> None:
        """Check the weights' SHA-256, find the base by content, and put the two together.

        `model_config` holds `artifact_sha256` and the fields of BaseReference, none of them for a merged model.
        """
        config = dict(context.model_config)
        shipped, expected = Path(context.artifacts["model"]), config.pop("artifact_sha256")
        if folder_sha256(shipped) != expected:
            raise UserError(f"{shipped}: these are not the files that were registered (SHA-256 {expected[:16]}…)")
        base = locate_base(BaseReference(**config)) if config else None
        self.model, self.tokenizer = load_shipped(shipped, base)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """An answer for each row of the one column: a prompt, or a conversation as JSON [{"role": …, "content": …}, …].

        MLflow turns a list of strings into such a table, and fills `params` from the signature.
        """
        conversations = [_conversation(row) for row in model_input.iloc[:, 0]]
        return generate_answers(self.model, self.tokenizer, conversations, **_options(params))

    def predict_stream(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> Iterator[str]:
        """The answer to the one row, piece by piece as it is generated."""
        if len(model_input) != 1:
            raise UserError(f"predict_stream takes one prompt, got {len(model_input)}; predict takes many")
        return stream_answer(self.model, self.tokenizer, _conversation(model_input.iloc[0, 0]), **_options(params))


def _options(params: dict[str, Any] | None) -> dict[str, Any]:
    """Generation options as plain values; MLflow hands lists over as arrays."""
    options: dict[str, Any] = {"max_new_tokens": 64, "temperature": 0.0, "seed": 0, "stop": []} | (params or {})
    return options | {"stop": [str(text) for text in options["stop"]]}


def _conversation(row: str) -> list[Message]:
    try:
        messages = json.loads(row) if row.lstrip().startswith("[") else None
    except json.JSONDecodeError:
        messages = None
    if isinstance(messages, list) and messages and all(isinstance(m, dict) and "role" in m for m in messages):
        return messages
    return [{"role": "user", "content": row}]


mlflow.models.set_model(AdaptedModel())
