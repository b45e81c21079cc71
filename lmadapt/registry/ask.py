"""Answers from whichever model is asked for: one of the pipeline's, a folder, or a registry version."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmadapt.evaluation.variants import model_folders
from lmadapt.models.generation import generate_answers
from lmadapt.models.loading import load_for_inference, load_tokenizer


def answer_with(
    model: str,
    prompts: Sequence[str],
    paths: dict[str, Path],
    *,
    tracking_uri: str,
    max_new_tokens: int,
    temperature: float,
) -> list[str]:
    """Answers of `model` (base | pretrained | adapted | models:/NAME@ALIAS | folder) to the prompts, all in NF4.

    `paths` holds the folders base, pretrained and adapter. A folder with an adapter goes over `pretrained`.
    Raises UserError when there is no such model.
    """
    if model.startswith("models:/"):
        loaded, tokenizer = _from_registry(model, tracking_uri)
    else:
        folder, adapter = model_folders(model, paths)
        tokenizer = load_tokenizer(adapter or folder)
        loaded = load_for_inference(folder, precision="nf4", adapter=adapter)
    conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return generate_answers(
        loaded, tokenizer, conversations, max_new_tokens=max_new_tokens, temperature=temperature
    )


def _from_registry(model: str, tracking_uri: str) -> tuple[Any, Any]:
    from lmadapt.registry.verify import load_version
    from lmadapt.registry.versions import connect, named_version, reaching

    version = named_version(connect(tracking_uri, Path.cwd()), model)
    with reaching():
        return load_version(version)
