"""Answers of any model: one of the pipeline, a folder, or a version in the registry."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmadapt.evaluation.variants import model_folders
from lmadapt.models.generation import generate_answers
from lmadapt.models.loading import Precision, load_for_inference, load_tokenizer


def answer_with(
    model: str,
    prompts: Sequence[str],
    paths: dict[str, Path],
    *,
    precision: Precision,
    tracking_uri: str,
    max_new_tokens: int,
    temperature: float,
) -> list[str]:
    """The answer of `model` to each prompt.

    `model` is base, pretrained, adapted, models:/NAME@ALIAS, or a folder; a folder with an adapter
    runs over `pretrained`. Models of the pipeline and folders run in `precision`, a version as it
    was judged. `paths` holds the folders base, pretrained and adapter. Raises UserError when there
    is no such model.
    """
    if model.startswith("models:/"):
        loaded, tokenizer = _load_from_registry(model, tracking_uri)
    else:
        folder, adapter = model_folders(model, paths)
        tokenizer = load_tokenizer(adapter or folder)
        loaded = load_for_inference(folder, precision=precision, adapter=adapter)
    conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return generate_answers(
        loaded, tokenizer, conversations, max_new_tokens=max_new_tokens, temperature=temperature
    )


def _load_from_registry(reference: str, tracking_uri: str) -> tuple[Any, Any]:
    from lmadapt.registry.connection import connect, reaching_registry
    from lmadapt.registry.verify import load_version
    from lmadapt.registry.versions import named_version

    version = named_version(connect(tracking_uri, Path.cwd()), reference)
    with reaching_registry():
        return load_version(version)
