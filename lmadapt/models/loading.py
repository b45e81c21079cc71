"""Loading models: bf16 or NF4, for training or for inference; safetensors only."""

import logging
import os
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from lmadapt.core.errors import UserError

SHARDED = (
    os.environ.get("ACCELERATE_USE_FSDP") == "true"
)  # each of several devices is to hold a part
Precision = Literal["nf4", "bf16"]

transformers_logging.disable_progress_bar()
logging.getLogger("transformers.integrations.bitsandbytes").setLevel(
    logging.ERROR
)  # it warns of what is meant


def device() -> torch.device:
    """The GPU of this process, the first where it trains alone; without one the CPU."""
    own = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", own) if torch.cuda.is_available() else torch.device("cpu")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model or adapter folder, with its chat template."""
    if not (folder / "tokenizer_config.json").is_file():
        raise UserError(
            f"{folder}: no tokenizer here (tokenizer_config.json is missing); `dvc repro` makes it"
        )
    return AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=_trusted(folder)
    )


def load_bf16(folder: Path, **options: Any) -> Any:
    """The model of a folder in bfloat16, on `device()`, in evaluation mode; `options` go to `from_pretrained`."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no model here (config.json is missing); `dvc repro` makes it")
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        attn_implementation="sdpa",
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=_trusted(folder),
        device_map={
            "": "cpu" if SHARDED and not options else device()
        },  # sharded: a part of it goes to the GPU
        **options,
    )
    return model.eval()


def load_nf4(folder: Path) -> Any:
    """The model of a folder, its linear layers in NF4 with double quantisation (Dettmers et al. 2023, QLoRA).

    Safe to train through: on CPUs with AVX512-BF16, bitsandbytes repacks each layer at the first forward pass in
    evaluation mode, after which it passes no gradient to its input; that path is switched off here.
    """
    model = load_bf16(
        folder,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_quant_storage=torch.bfloat16
            if SHARDED
            else torch.uint8,  # FSDP shards no integers
        ),
    )
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def load_unpacked_nf4(folder: Path) -> Any:
    """As `load_nf4`; on a CPU the 4-bit weights are unpacked once into bfloat16.

    The products are those of the 4-bit layers (the same numbers enter the same multiplication: equal losses, bit by
    bit), without unpacking at every pass, which halves the time of a training step on a CPU. It takes four times the
    memory of the packed layers, so GPUs keep them packed.
    """
    model = load_nf4(folder)
    return model.dequantize() if device().type == "cpu" else model


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights in bf16 safetensors, config without a path of this machine, tokenizer and chat template."""
    model.to(torch.bfloat16)
    model.config._name_or_path = ""
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_for_inference(
    folder: Path,
    *,
    precision: Precision,
    adapter: Path | None = None,
    alpha_scale: float = 1.0,
    merged: bool = False,
) -> Any:
    """The model of `folder`, with the LoRA adapter of folder `adapter` over it, for scoring and generation.

    The adapter's share of each layer is multiplied by `alpha_scale`; with `merged` it is added to the weights. An
    `adapter` that is a whole model, fully fine-tuned, takes the place of `folder`. Raises UserError where the adapter
    is of another base, or cannot be scaled.
    """
    if adapter is not None and not is_adapter(adapter):
        folder, adapter = adapter, None
        if alpha_scale != 1:
            raise UserError(
                f"alpha_scale is {alpha_scale:g}, but {folder} is no adapter to be scaled; set it to 1"
            )
    model = load_unpacked_nf4(folder) if precision == "nf4" else load_bf16(folder)
    if adapter is not None:
        from peft import PeftModel
        from peft.tuners.lora import LoraLayer

        try:
            model = PeftModel.from_pretrained(model, adapter, use_safetensors=True)
        except (RuntimeError, ValueError) as error:  # names or sizes of its layers are not there
            raise UserError(
                f"{adapter}: not an adapter for the model in {folder}: {error}"
            ) from None
        if alpha_scale != 1 and model.peft_config["default"].use_dora:
            raise UserError(
                f"alpha_scale is {alpha_scale:g}, but a DoRA adapter cannot be scaled; set it to 1"
            )
        # What autocast does in training; in fp32 the adapter would also cost a third more time on a CPU.
        for name, tensor in model.named_parameters():
            if "lora_" in name:
                tensor.data = tensor.data.to(torch.bfloat16)
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                layer.scale_layer(alpha_scale)
        model = model.merge_and_unload() if merged else model
    return model.eval()


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter; else it holds a model of its own."""
    return (folder / "adapter_config.json").is_file()


def _trusted(folder: Path) -> bool:
    """Whether the model's own code may run: fetch copies it only where fetch.model.trust_remote_code allows it."""
    return any(folder.glob("*.py"))
