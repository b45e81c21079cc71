"""Is what the registry gives back the model that was trained? Logits of fixed prompts, equal to the last bit."""

from pathlib import Path
from typing import Any

import mlflow
import torch
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lmadapt.core.errors import UserError
from lmadapt.models.chat import encode_prompt
from lmadapt.models.loading import Precision, load_for_inference, load_tokenizer
from lmadapt.provenance.lineage import without_passwords
from lmadapt.registry.versions import PROMPTS, TRY_AGAIN, reaching

Logits = list[torch.Tensor]  # of each fixed prompt, shape 1 x tokens x vocabulary


def trained_logits(pretrained: Path, adapter: Path | None, *, scale: float) -> Logits:
    """Logits of the model as it was trained, or without `adapter` as it was merged; MLflow has no part in it."""
    precision: Precision = "nf4" if adapter else "bf16"
    model = load_for_inference(pretrained, precision=precision, adapter=adapter, alpha_scale=scale)
    return _logits(model, load_tokenizer(adapter or pretrained))


def load_version(version: ModelVersion) -> tuple[Any, Any]:
    """Model and tokenizer of a version, as MLflow loads them."""
    loaded = mlflow.pyfunc.load_model(
        f"models:/{version.name}/{version.version}"
    ).unwrap_python_model()
    return loaded.model, loaded.tokenizer


def verify(client: mlflow.MlflowClient, version: ModelVersion, expected: Logits) -> None:
    """Load the version back and tag it `status=verified`; UserError and `status=broken` if it is not the same model.

    Raises Unavailable, and leaves it untagged for the next run to check, when the registry cannot be reached now.
    """
    try:
        torch.testing.assert_close(_logits(*load_version(version)), expected, rtol=0, atol=0)
        problem = ""
    except AssertionError as difference:
        problem = f"its logits differ: {' '.join(str(difference).split())}"
    except Exception as error:
        if _may_pass(error):
            with reaching():
                raise
        problem = f"loading it back failed: {without_passwords(str(error))}"
    with reaching():
        client.set_terminated(version.run_id)
        client.set_model_version_tag(
            version.name, version.version, "status", "broken" if problem else "verified"
        )
    if problem:
        raise UserError(
            f"{version.name} version {version.version} is not the model that was trained: {problem}; "
            "it is tagged status=broken and gets no alias"
        )


def _may_pass(error: Exception) -> bool:
    if isinstance(error, MlflowException):
        return error.error_code in TRY_AGAIN
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def _logits(model: Any, tokenizer: Any) -> Logits:
    prompts = [
        encode_prompt(tokenizer, [{"role": "user", "content": prompt}]) for prompt in PROMPTS
    ]
    with torch.inference_mode():
        return [
            model(input_ids=torch.tensor([ids], device=model.device)).logits.cpu()
            for ids in prompts
        ]
