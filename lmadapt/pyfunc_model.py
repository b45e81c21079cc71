"""The registered model as MLflow runs it: the adapter from the version's artifacts over the base it refers to.

MLflow executes this file ("models from code") where the version is loaded, with the version's own copy of lmadapt.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from lmadapt.base_reference import BaseReference, locate_base
from lmadapt.chat import Message
from lmadapt.generation import generate_answers
from lmadapt.models import load_for_inference, load_tokenizer


class AdaptedModel(mlflow.pyfunc.PythonModel):
    """Prompts in, answers out; `model` and `tokenizer` are there for whoever wants more than answers."""

    def load_context(self, context: Any) -> None:
        """Find the base by content, put the adapter over its NF4 form."""
        adapter = Path(context.artifacts["adapter"])
        base = locate_base(BaseReference(**context.model_config))
        self.tokenizer = load_tokenizer(adapter)
        self.model = load_for_inference(base, precision="nf4", adapter=adapter)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """An answer for each row of the one column: a prompt, or a conversation as JSON [{"role": …, "content": …}, …].

        MLflow turns a list of strings into such a table, and fills `params` from the signature.
        """
        options = params or {"max_new_tokens": 64, "temperature": 0.0}
        return generate_answers(
            self.model,
            self.tokenizer,
            [_conversation(row) for row in model_input.iloc[:, 0]],
            max_new_tokens=int(options["max_new_tokens"]),
            temperature=float(options["temperature"]),
        )


def _conversation(row: str) -> list[Message]:
    try:
        messages = json.loads(row) if row.lstrip().startswith("[") else None
    except json.JSONDecodeError:
        messages = None
    if isinstance(messages, list) and messages and all(isinstance(m, dict) and "role" in m for m in messages):
        return messages
    return [{"role": "user", "content": row}]


mlflow.models.set_model(AdaptedModel())
