"""What a version ships, and how it is put together again: an adapter without its base, or one merged model."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from lmadapt.core.errors import UserError
from lmadapt.models.loading import is_adapter, load_bf16, load_tokenizer, save_model
from lmadapt.models.merging import merge_adapter

WEIGHTS, CONFIG, TEMPLATE = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "chat_template.jinja",
)
SAMPLE = "The capital of France is Paris. A buffer overflow lets an attacker write past the end of a buffer."


def ship_adapter(adapter: Path, base: Path, target: Path, *, scale: float) -> None:
    """Write the adapter without anything its base holds as well, such as the tokenizer, to the empty folder `target`.

    Weights are written in bf16, the precision in which models.load_for_inference runs them; `lora_alpha` is
    multiplied by `scale`. Raises UserError for a model of which all weights were trained.
    """
    if not is_adapter(adapter):
        raise UserError(
            "register.artifact is adapter, but sft.method: full makes none; allowed: merged"
        )
    for file in adapter.iterdir():
        same = (base / file.name).is_file() and (base / file.name).read_bytes() == file.read_bytes()
        if not same or file.name == TEMPLATE:
            shutil.copyfile(file, target / file.name)
    weights = {
        name: tensor.to(torch.bfloat16) for name, tensor in load_file(adapter / WEIGHTS).items()
    }
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((target / CONFIG).read_text(encoding="utf-8"))
    config["lora_alpha"] *= scale
    (target / CONFIG).write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def ship_merged(adapter: Path, base: Path, target: Path, *, scale: float) -> dict[str, float]:
    """Write the bf16 base with the adapter merged into it, as any server reads it, to the empty folder `target`.

    Returns how far merging moved predictions, as `merge_adapter` measures and limits it. A model of
    which all weights were trained is copied.
    """
    if not is_adapter(adapter):
        shutil.copytree(adapter, target, dirs_exist_ok=True)
        return {"logits_mean_absolute": 0.0, "kl_nats": 0.0}
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    tokenizer = load_tokenizer(adapter)
    model = PeftModel.from_pretrained(load_bf16(base), adapter, use_safetensors=True)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.scale_layer(scale)
    merged, moved = merge_adapter(model, torch.tensor(tokenizer(SAMPLE)["input_ids"]))
    save_model(merged, tokenizer, target)
    return moved
