"""Answers from whichever model is asked for: one of the pipeline's, a folder, or a registry version."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmadapt.errors import UserError
from lmadapt.generation import generate_answers
from lmadapt.models import load_for_inference, load_tokenizer


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
    return generate_answers(loaded, tokenizer, conversations, max_new_tokens=max_new_tokens, temperature=temperature)


def model_folders(model: str, paths: dict[str, Path]) -> tuple[Path, Path | None]:
    """The folders of a model (base | pretrained | adapted | folder) and of the adapter over it, if there is one.

    Raises UserError when there is no such model.
    """
    if model in {"base", "pretrained"}:
        return paths[model], None
    folder = paths["adapter"] if model == "adapted" else Path(model)
    if (folder / "adapter_config.json").is_file():
        return paths["pretrained"], folder
    if model != "adapted" and folder.is_dir():
        return folder, None
    raise UserError(f"{folder}: no model here; allowed: base, pretrained, adapted, models:/NAME@ALIAS, or a folder")


def _from_registry(model: str, tracking_uri: str) -> tuple[Any, Any]:
    from lmadapt.load_back import load_version
    from lmadapt.registry import connect, named_version, reaching

    version = named_version(connect(tracking_uri, Path.cwd()), model)
    with reaching():
        return load_version(version)
