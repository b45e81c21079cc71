"""Writes what a version ships: an adapter without its base, or one merged model."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from lmadapt.core.errors import UserError
from lmadapt.models.loading import add_adapter, is_adapter, load_bf16, load_tokenizer, save_model
from lmadapt.models.merging import merge_adapter
from lmadapt.provenance.document import MergeDifference

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
TEMPLATE = "chat_template.jinja"
SAMPLE = (  # the text on which merging is measured
    "The capital of France is Paris. "
    "A buffer overflow lets an attacker write past the end of a buffer."
)


def export_adapter(adapter: Path, base: Path, target: Path, *, scale: float) -> None:
    """Write the adapter to the empty folder `target`, without files its base holds too.

    Weights are written in bf16, in which models.load_for_inference runs them; `lora_alpha` is
    multiplied by `scale`. Raises UserError for a model of which all weights were trained.
    """
    if not is_adapter(adapter):
        raise UserError(
            "register.artifact is adapter, but sft.method: full trains no adapter; allowed: merged"
        )
    for file in adapter.iterdir():
        if file.name == TEMPLATE or not _same_content(file, base / file.name):
            shutil.copyfile(file, target / file.name)
    weights = load_file(adapter / WEIGHTS)
    rounded = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    save_file(rounded, target / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((target / CONFIG).read_text(encoding="utf-8"))
    config["lora_alpha"] *= scale
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (target / CONFIG).write_text(text, encoding="utf-8")


def _same_content(file: Path, other: Path) -> bool:
    return other.is_file() and other.read_bytes() == file.read_bytes()


def export_merged(adapter: Path, base: Path, target: Path, *, scale: float) -> MergeDifference:
    """Write the bf16 base with the adapter merged into it to the empty folder `target`.

    Any server reads that folder. Returns how far merging moved the predictions, which
    models.merging.merge_adapter measures and limits. A model of which all weights were trained is
    copied.
    """
    if not is_adapter(adapter):
        shutil.copytree(adapter, target, dirs_exist_ok=True)
        return MergeDifference(logits_mean_absolute=0.0, kl_nats=0.0)
    tokenizer = load_tokenizer(adapter)
    model = add_adapter(load_bf16(base), adapter, base, scale)
    merged, moved = merge_adapter(model, torch.tensor(tokenizer(SAMPLE)["input_ids"]))
    save_model(merged, tokenizer, target)
    return MergeDifference.model_validate(moved)
