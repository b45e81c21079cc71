"""What of a model is trained: LoRA adapters or all of it; merging, and writing without a trace of this machine."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model
from transformers import set_seed

from lmadapt.core.errors import UserError
from lmadapt.models.loading import load_bf16, load_unpacked_nf4

Method = Literal["qlora", "lora", "full"]
Targets = Literal["all-linear", "retain"]
Variant = Literal["lora", "rslora", "dora"]
MLP_NAMES = {
    "mlp",
    "feed_forward",
    "ffn",
}  # what the models of transformers call the block after attention
MERGE_SAMPLE_TOKENS = 128  # their logits are held several times over
MAX_MERGE_KL_NATS = (
    0.01  # rounding to bf16 moves next-token distributions less than this, a wrong merge much more
)


def prepare(base: Path, *, method: Method, frozen_layers: int, **lora: Any) -> Any:
    """The model of folder `base`, ready for training: `lora` goes to `add_lora`, with `full` all weights are trained.

    Its lowest `frozen_layers` layers are not. With `qlora` the base is in NF4, else in bf16.
    """
    if method != "full":
        model = load_unpacked_nf4(base) if method == "qlora" else load_bf16(base)
        return add_lora(model, frozen_layers=frozen_layers, **lora)
    model = load_bf16(
        base
    ).float()  # bf16 has too few digits for small updates; products are in bf16 all the same
    bottom_layers(model, frozen_layers).requires_grad_(False)
    return model


def add_lora(
    model: Any,
    *,
    rank: int,
    alpha: int,
    seed: int,
    dropout: float = 0.0,
    targets: Targets = "all-linear",
    variant: Variant = "lora",
    frozen_layers: int = 0,
) -> Any:
    """The model with a LoRA adapter (Hu et al. 2021), in fp32, on its linear layers; all else is frozen.

    `all-linear` is every linear layer but the head (Dettmers et al. 2023: needed to match full fine-tuning);
    `retain` leaves attention alone, which forgets less. `rslora` scales by alpha / sqrt(rank) (Kalajdzievski 2023,
    arXiv 2312.03732), `dora` trains the length of each row of a weight apart (Liu et al. 2024, arXiv 2402.09353). The
    lowest `frozen_layers` layers get no adapter. The seed is set before the adapter is initialised.
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


def bottom_layers(model: Any, count: int) -> Any:
    """The `count` layers nearest to the input; raises UserError when they would be all."""
    layers = model.get_decoder().layers
    if count >= len(layers):
        raise UserError(
            f"frozen_layers is {count}, but the model has {len(layers)} layers; allowed: 0 to one less"
        )
    return layers[:count]


def save_adapter(model: Any, folder: Path, *, base_name: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json; equal adapters give equal files.

    The config names its base `base_name` instead of a path of this machine.
    """
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()  # a generated card; it names the base by its path
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # comes from a set
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(model: Any, sample: torch.Tensor) -> tuple[Any, dict[str, float]]:
    """Merge the adapter into its bf16 base; returns the merged model and how far its predictions moved.

    sample: [L] token ids; on the first MERGE_SAMPLE_TOKENS of them both are compared: mean absolute difference of
    logits, and mean KL divergence of merged from unmerged in nats per token. Raises UserError where the merge is not
    the model that was trained.
    """
    sample = sample[:MERGE_SAMPLE_TOKENS]
    before = _logits(model, sample)
    merged = model.merge_and_unload()
    after = _logits(merged, sample)
    divergence = torch.nn.functional.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="sum"
    )
    moved = {
        "logits_mean_absolute": round((after - before).abs().mean().item(), 6),
        "kl_nats": round(divergence.item() / len(sample), 6),
    }
    if not moved["kl_nats"] <= MAX_MERGE_KL_NATS:
        raise UserError(
            f"merging the adapter changed the model: KL {moved['kl_nats']} nats per token, allowed "
            f"{MAX_MERGE_KL_NATS}; a lower learning_rate or lora_alpha keeps the adapter within what bf16 can hold, "
            "and method: full needs no merge"
        )
    return merged, moved


@torch.no_grad()
def _logits(model: Any, sample: torch.Tensor) -> torch.Tensor:
    model.eval()
    output = model(input_ids=sample[None].to(model.device), use_cache=False)
    return torch.as_tensor(output.logits[0]).float()


def _mlp_pattern(model: Any) -> str:
    """A regular expression of the paths of all linear layers in MLP blocks."""
    blocks = set()
    for path, module in model.named_modules():
        parts = path.split(".")
        inside = [index for index, part in enumerate(parts[:-1]) if part in MLP_NAMES]
        if inside and isinstance(module, torch.nn.Linear):
            blocks.add((parts[inside[0]], parts[-1]))
    if not blocks:
        raise UserError(
            f"target_modules: retain finds no linear layers in {', '.join(sorted(MLP_NAMES))} of "
            f"{type(model).__name__}; allowed: all-linear"
        )
    return "|".join(
        rf".*\.{re.escape(block)}\.(.*\.)?{re.escape(name)}" for block, name in sorted(blocks)
    )
