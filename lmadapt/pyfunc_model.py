"""The registered model as MLflow runs it: the adapter from the version's artifacts over the base it refers to.

MLflow executes this file ("models from code") where the version is loaded, with the version's own copy of lmadapt.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from lmadapt.base_reference import BaseReference, locate_base
from lmadapt.chat import Message
from lmadapt.generation import generate_answers
from lmadapt.models import load_for_inference, load_tokenizer

# MLflow would infer the signature from type hints and drop our params; it is written out in registry.py instead.
warnings.filterwarnings("ignore", message="(?i).*type hint", category=UserWarning)


class AdaptedModel(mlflow.pyfunc.PythonModel):
    """Prompts in, answers out; `model` and `tokenizer` are there for whoever wants more than answers."""

    def load_context(self, context: Any) -> None:
        """Find the base by content, put the adapter over its NF4 form."""
        adapter = Path(context.artifacts["adapter"])
        base = locate_base(BaseReference(**context.model_config))
        self.tokenizer = load_tokenizer(adapter)
        self.model = load_for_inference(base, precision="nf4", adapter=adapter)

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        """One answer for each row: a prompt, or a conversation as JSON [{"role": …, "content": …}, …]."""
        options = {"max_new_tokens": 64, "temperature": 0.0} | (params or {})
        return generate_answers(
            self.model,
            self.tokenizer,
            [_conversation(row) for row in _rows(model_input)],
            max_new_tokens=int(options["max_new_tokens"]),
            temperature=float(options["temperature"]),
        )


def _rows(model_input: Any) -> list[Any]:
    if isinstance(model_input, pd.DataFrame):
        column = "prompt" if "prompt" in model_input.columns else model_input.columns[0]
        return list(model_input[column])
    return [model_input] if isinstance(model_input, str) else list(model_input)


def _conversation(row: Any) -> list[Message]:
    messages = row
    if isinstance(row, str):
        try:
            messages = json.loads(row) if row.lstrip().startswith("[") else None
        except json.JSONDecodeError:
            messages = None
    if isinstance(messages, list) and messages and all(isinstance(m, dict) and "role" in m for m in messages):
        return messages
    return [{"role": "user", "content": str(row)}]


mlflow.models.set_model(AdaptedModel())
