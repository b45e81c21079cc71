"""Checks that the registry gives back the model that was trained: logits equal to the last bit."""

from pathlib import Path
from typing import Any

import mlflow
import torch
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lmadapt.core.errors import UserError
from lmadapt.models.chat import encode_prompt
from lmadapt.models.loading import Precision, load_for_inference, load_tokenizer
from lmadapt.provenance.redaction import redact_secrets
from lmadapt.registry.connection import TRANSIENT_CODES, reaching_registry

PROMPTS = (
    "What is the capital of France?",
    "Name one way to prevent SQL injection.",
    "Was ist 17 + 25? Schritt für Schritt.",
)
Logits = list[torch.Tensor]  # one for each of PROMPTS, of shape 1 x tokens x vocabulary


def adapter_logits(
    pretrained: Path, adapter: Path, *, scale: float, precision: Precision
) -> Logits:
    """Logits of the adapter over its base, as it was judged; MLflow has no part in it."""
    model = load_for_inference(pretrained, precision=precision, adapter=adapter, alpha_scale=scale)
    return _logits(model, load_tokenizer(adapter))


def merged_logits(merged: Path, precision: Precision) -> Logits:
    """Logits of a merged model, as it was judged; MLflow has no part in it."""
    return _logits(load_for_inference(merged, precision=precision), load_tokenizer(merged))


def load_version(version: ModelVersion) -> tuple[Any, Any]:
    """Model and tokenizer of a version, as MLflow loads them."""
    uri = f"models:/{version.name}/{version.version}"
    loaded = mlflow.pyfunc.load_model(uri).unwrap_python_model()
    return loaded.model, loaded.tokenizer


def verify(client: mlflow.MlflowClient, version: ModelVersion, expected: Logits) -> None:
    """Load the version back, compare its logits with `expected`, and tag it `status=verified`.

    Raises UserError, with the tag `status=broken`, when it is another model or cannot be loaded.
    Raises Unavailable when the registry cannot be reached now; the version stays untagged, and the
    next run checks it.
    """
    problem = _difference(version, expected)
    with reaching_registry():
        status = "broken" if problem else "verified"
        client.set_terminated(version.run_id)
        client.set_model_version_tag(version.name, version.version, "status", status)
    if problem:
        raise UserError(
            f"{version.name} version {version.version} is not the model that was trained: "
            f"{problem}; it is tagged status=broken and gets no alias"
        )


def _difference(version: ModelVersion, expected: Logits) -> str:
    """How the version differs from the trained model; "" when its logits are equal."""
    try:
        torch.testing.assert_close(_logits(*load_version(version)), expected, rtol=0, atol=0)
    except AssertionError as difference:
        return f"its logits differ: {' '.join(str(difference).split())}"
    except Exception as error:
        if _is_transient(error):
            with reaching_registry():
                raise
        return f"loading it back failed: {redact_secrets(str(error))}"
    return ""


def _is_transient(error: Exception) -> bool:
    """Whether the next attempt may succeed."""
    if isinstance(error, MlflowException):
        return error.error_code in TRANSIENT_CODES
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def _logits(model: Any, tokenizer: Any) -> Logits:
    logits = []
    with torch.inference_mode():
        for prompt in PROMPTS:
            ids = encode_prompt(tokenizer, [{"role": "user", "content": prompt}])
            tokens = torch.tensor([ids], device=model.device)
            logits.append(model(input_ids=tokens).logits.cpu())
    return logits
