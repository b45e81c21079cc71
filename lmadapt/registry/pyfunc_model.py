"""The registered model as MLflow runs it: what the version ships, over the base it refers to.

MLflow executes this file ("models from code") with the version's own copy of lmadapt.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from lmadapt.models.chat import Message
from lmadapt.models.generation import generate_answers, stream_answer
from lmadapt.models.loading import load_for_inference, load_tokenizer
from lmadapt.registry.restore import assembled, served_precision

DEFAULTS: dict[str, Any] = {"max_new_tokens": 64, "temperature": 0.0, "seed": 0, "stop": []}


class AdaptedModel(mlflow.pyfunc.PythonModel):
    """Prompts in, answers out; callers may also use `model` and `tokenizer` directly."""

    def load_context(self, context: Any) -> None:
        """Check the files' SHA-256, find the base by content, and load both.

        The model runs in the precision in which it was judged.
        """
        shipped = Path(context.artifacts["model"])
        with assembled(shipped, context.model_config) as (folder, base):
            self.tokenizer = load_tokenizer(folder)
            self.model = load_for_inference(
                base or shipped,
                precision=served_precision(context.model_config),
                adapter=shipped if base else None,
            )

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[str]:
        """An answer to each row of the one column.

        A row is a prompt, or a conversation as JSON: [{"role": …, "content": …}, …]. MLflow turns
        a list of strings into such a table, and fills `params` from the signature.
        """
        conversations = [_conversation(row) for row in model_input.iloc[:, 0]]
        return generate_answers(self.model, self.tokenizer, conversations, **_options(params))

    def predict_stream(
        self, context: Any, model_input: Any, params: dict[str, Any] | None = None
    ) -> Iterator[str]:
        """The answer to the first row, piece by piece as it is generated."""
        conversation = _conversation(model_input.iloc[0, 0])
        return stream_answer(self.model, self.tokenizer, conversation, **_options(params))


def _options(params: dict[str, Any] | None) -> dict[str, Any]:
    """Generation options as plain values; MLflow passes lists as arrays."""
    options = DEFAULTS | (params or {})
    return options | {"stop": [str(text) for text in options["stop"]]}


def _conversation(row: str) -> list[Message]:
    try:
        messages = json.loads(row) if row.lstrip().startswith("[") else None
    except json.JSONDecodeError:
        messages = None
    if messages and all(isinstance(one, dict) and "role" in one for one in messages):
        return list(messages)
    return [{"role": "user", "content": row}]


mlflow.models.set_model(AdaptedModel())
