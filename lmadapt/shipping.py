"""What a version ships, and how it is put together again: an adapter without its base, or one merged model."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lmadapt.base_reference import link_together
from lmadapt.models import load_bf16, load_for_inference, load_tokenizer, save_model

WEIGHTS = "adapter_model.safetensors"
SAMPLE = "The capital of France is Paris. A buffer overflow lets an attacker write past the end of a buffer."


def ship_adapter(adapter: Path, base: Path, target: Path, *, scale: float) -> None:
    """Write the adapter without anything its base holds as well, such as the tokenizer, to the empty folder `target`.

    Weights are written in bf16, the precision in which models.load_for_inference runs them; `lora_alpha` is
    multiplied by `scale`.
    """
    for file in adapter.iterdir():
        if not (base / file.name).is_file() or (base / file.name).read_bytes() != file.read_bytes():
            shutil.copyfile(file, target / file.name)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(adapter / WEIGHTS).items()}
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(adapter / "chat_template.jinja", target / "chat_template.jinja")
    file = target / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["lora_alpha"] *= scale
    config["alpha_pattern"] = {name: alpha * scale for name, alpha in config.get("alpha_pattern", {}).items()}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def ship_merged(adapter: Path, base: Path, target: Path, *, scale: float) -> dict[str, float]:
    """Write the bf16 base with the adapter merged into it, as any server reads it, to the empty folder `target`.

    Returns how far merging moved predictions, as lmadapt.adapters.merge measures and limits it.
    """
    from peft import PeftModel

    from lmadapt.adapters import merge

    tokenizer = load_tokenizer(adapter)
    model = PeftModel.from_pretrained(load_bf16(base), adapter, use_safetensors=True)
    scale_adapter(model, scale)
    merged, moved = merge(model, torch.tensor(tokenizer(SAMPLE)["input_ids"]))
    save_model(merged, tokenizer, target)
    return moved


def scale_adapter(model: Any, scale: float) -> None:
    """Multiply what the adapter of a PEFT model adds by `scale`."""
    for module in model.modules():
        if hasattr(module, "scale_layer") and scale != 1:
            module.scale_layer(scale)


def load_shipped(shipped: Path, base: Path | None) -> tuple[Any, Any]:
    """Model and tokenizer: the adapter over its base in NF4, or without `base` the merged model in bf16."""
    if base is None:
        return load_for_inference(shipped, precision="bf16"), load_tokenizer(shipped)
    with TemporaryDirectory() as together:
        link_together(shipped, base, Path(together))
        return load_for_inference(base, precision="nf4", adapter=shipped), load_tokenizer(Path(together))
