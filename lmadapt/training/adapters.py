"""Which parameters are trained: those of a LoRA adapter or all; and how an adapter is written."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import set_seed

from lmadapt.core.errors import UserError
from lmadapt.models.loading import load_bf16, load_unpacked_nf4
from lmadapt.training.params import LoraVariant, TargetModules, TrainingParams

MLP_NAMES = {"mlp", "feed_forward", "ffn"}  # transformers' names for the block after attention


def trainable_model(base: Path, params: TrainingParams, *, dropout: float = 0.0) -> Any:
    """The model in folder `base`, ready for training as `params` say.

    With `full` all weights are trained in fp32, except those of the lowest `frozen_layers` layers.
    Else the model gets a LoRA adapter with `dropout`; its base is in NF4 with `qlora`, in bf16 with
    `lora`.
    """
    if params.method == "full":
        # Small updates get lost in bf16; the matrix products are in bf16 all the same.
        model = load_bf16(base).float()
        bottom_layers(model, params.frozen_layers).requires_grad_(False)
        return model
    return add_lora(
        load_unpacked_nf4(base) if params.method == "qlora" else load_bf16(base),
        rank=params.lora_rank,
        alpha=params.lora_alpha,
        seed=params.seed,
        dropout=dropout,
        targets=params.target_modules,
        variant=params.lora_variant,
        frozen_layers=params.frozen_layers,
    )


def add_lora(
    model: Any,
    *,
    rank: int,
    alpha: int,
    seed: int,
    dropout: float = 0.0,
    targets: TargetModules = "all-linear",
    variant: LoraVariant = "lora",
    frozen_layers: int = 0,
) -> Any:
    """Add a LoRA adapter in fp32 (Hu et al. 2021) to linear layers; all other weights are frozen.

    `all-linear` adapts every linear layer but the head (Dettmers et al. 2023: LoRA needs this to
    match full fine-tuning); `retain` adapts MLP layers only, which forgets less. `rslora` scales
    by alpha / sqrt(rank) (Kalajdzievski 2023, arXiv 2312.03732); `dora` trains the length of each
    row of a weight separately (Liu et al. 2024, arXiv 2402.09353). The lowest `frozen_layers`
    layers get no adapter. The seed is set before the adapter is initialised.
    """
    set_seed(seed)
    modules: str = targets if targets == "all-linear" else _mlp_pattern(model)
    lowest = "|".join(str(number) for number in range(len(bottom_layers(model, frozen_layers))))
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_rslora=variant == "rslora",
        use_dora=variant == "dora",
        target_modules=modules,
        exclude_modules=rf".*\.layers\.({lowest})\..*" if frozen_layers else None,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def trainable_parameters(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Names and tensors of the parameters that training changes."""
    return [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]


def bottom_layers(model: Any, count: int) -> Any:
    """The `count` layers nearest to the input; UserError where these are all layers."""
    layers = model.get_decoder().layers
    if count >= len(layers):
        raise UserError(
            f"frozen_layers is {count}, but the model has {len(layers)} layers; "
            f"allowed: 0 to {len(layers) - 1}"
        )
    return layers[:count]


def save_adapter(model: Any, folder: Path, *, base_name: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json; equal adapters give equal files.

    The config names the base `base_name` instead of its path on this machine.
    """
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()  # PEFT's generated card, which names the base by its path
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT makes the list from a set
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _mlp_pattern(model: Any) -> str:
    """A regular expression that matches the paths of all linear layers in MLP blocks."""
    found = set()
    for path, module in model.named_modules():
        parts = path.split(".")
        blocks = [part for part in parts[:-1] if part in MLP_NAMES]
        if blocks and isinstance(module, torch.nn.Linear):
            found.add((blocks[0], parts[-1]))
    if not found:
        raise UserError(
            f"target_modules: retain finds no linear layers in {', '.join(sorted(MLP_NAMES))} of "
            f"{type(model).__name__}; allowed: all-linear"
        )
    patterns = [
        rf".*\.{re.escape(block)}\.(.*\.)?{re.escape(name)}" for block, name in sorted(found)
    ]
    return "|".join(patterns)
