"""Loads models in bf16 or NF4, for training or inference, from safetensors only; saves them."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from lmadapt.core.environment import TRUST_VARIABLE
from lmadapt.core.errors import UserError

# Whether each of several devices will hold one part of the model.
SHARDED = os.environ.get("ACCELERATE_USE_FSDP") == "true"
Precision = Literal["nf4", "bf16"]

transformers_logging.disable_progress_bar()
# bitsandbytes warns about the storage type that load_nf4 chooses on purpose.
logging.getLogger("transformers.integrations.bitsandbytes").setLevel(logging.ERROR)


def device() -> torch.device:
    """The GPU of this process (the first, if it is the only process), or the CPU without a GPU."""
    own = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", own) if torch.cuda.is_available() else torch.device("cpu")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model or adapter folder, with its chat template.

    Raises UserError when the folder has none, or one with code of its own that may not run.
    """
    if not (folder / "tokenizer_config.json").is_file():
        raise UserError(
            f"{folder}: no tokenizer here (tokenizer_config.json is missing); `dvc repro` makes it"
        )
    with _own_code_refused(folder):
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=_trusted(folder)
        )


def load_bf16(folder: Path, **options: Any) -> Any:
    """The model of a folder in bfloat16, on `device()`, in evaluation mode.

    `options` go to transformers' `from_pretrained`. Raises UserError when the folder has no model,
    or one with code of its own that may not run.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no model here (config.json is missing); `dvc repro` makes it")
    # A sharded model starts on the CPU; FSDP then moves one part of it to each GPU.
    place = "cpu" if SHARDED and not options else device()
    with _own_code_refused(folder):
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=_trusted(folder),
            device_map={"": place},
            **options,
        )
    return model.eval()


def load_nf4(folder: Path) -> Any:
    """The model of a folder, its linear layers in NF4 with double quantisation.

    Source: Dettmers et al. 2023, QLoRA. Gradients pass through the layers: on CPUs with
    AVX512-BF16, bitsandbytes would repack each layer at its first forward pass in evaluation mode,
    and a repacked layer passes no gradient to its input. That path is switched off here.
    """
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        # FSDP cannot shard integers.
        bnb_4bit_quant_storage=torch.bfloat16 if SHARDED else torch.uint8,
    )
    model = load_bf16(folder, quantization_config=quantization)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def load_unpacked_nf4(folder: Path) -> Any:
    """As `load_nf4`, but on a CPU the 4-bit weights are unpacked once into bfloat16.

    The 4-bit layers unpack the same numbers at every pass, so the losses are equal to the last
    bit. Unpacking once halves the time of a training step on a CPU, and takes four times the
    memory of the packed layers, which is why GPUs keep them packed.
    """
    model = load_nf4(folder)
    return model.dequantize() if device().type == "cpu" else model


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model folder: weights in bf16 safetensors, config, tokenizer and chat template.

    The config names no path of this machine. `model` itself becomes bf16.
    """
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
    """The model of `folder`, with the LoRA adapter of folder `adapter` over it.

    Its use is scoring and generation. What the adapter adds to each layer is multiplied by
    `alpha_scale`. With `merged` it becomes part of the bf16 weights, as registry.export writes
    them, and only then is the model quantised. An `adapter` that is a whole, fully fine-tuned model
    replaces `folder`.
    Raises UserError when the adapter is for another base or cannot be scaled.
    """
    if adapter is not None and not is_adapter(adapter):
        folder, adapter = adapter, None
        if alpha_scale != 1:
            raise UserError(
                f"alpha_scale is {alpha_scale:g}, but {folder} is a whole model, and only an "
                "adapter can be scaled; set alpha_scale to 1"
            )
    if adapter is not None and merged:
        return _load_merged(folder, adapter, precision, alpha_scale)
    model = load_unpacked_nf4(folder) if precision == "nf4" else load_bf16(folder)
    if adapter is not None:
        model = add_adapter(model, adapter, folder, alpha_scale)
        # Autocast does the same in training. In fp32 the adapter would take a third more time on a
        # CPU.
        for name, tensor in model.named_parameters():
            if "lora_" in name:
                tensor.data = tensor.data.to(torch.bfloat16)
    return model.eval()


def _load_merged(folder: Path, adapter: Path, precision: Precision, alpha_scale: float) -> Any:
    """The bf16 base with the adapter merged into it, as registry.export writes it."""
    model = add_adapter(load_bf16(folder), adapter, folder, alpha_scale).merge_and_unload()
    if precision == "bf16":
        return model.eval()
    with TemporaryDirectory(prefix="lmadapt-") as temp:  # bitsandbytes quantises while it reads
        save_model(model, load_tokenizer(folder), Path(temp))
        del model
        return load_unpacked_nf4(Path(temp)).eval()


def add_adapter(model: Any, adapter: Path, folder: Path, alpha_scale: float) -> Any:
    """The model of `folder` with the LoRA adapter over it, in the precision of its file.

    Raises UserError when the adapter is for another base or cannot be scaled.
    """
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    try:
        model = PeftModel.from_pretrained(model, adapter, use_safetensors=True)
    except (RuntimeError, ValueError) as error:  # the model lacks such layers, or of such sizes
        raise UserError(f"{adapter}: not an adapter for the model in {folder}: {error}") from None
    if alpha_scale != 1 and model.peft_config["default"].use_dora:
        raise UserError(
            f"alpha_scale is {alpha_scale:g}, but a DoRA adapter cannot be scaled; set alpha_scale "
            "to 1"
        )
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.scale_layer(alpha_scale)
    return model


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter; otherwise it holds a whole model."""
    return (folder / "adapter_config.json").is_file()


def _trusted(folder: Path) -> bool:
    """Whether the model's own code may run: the user says so, never the model.

    Stages set the variable when fetch.model.trust_remote_code is true.
    """
    return os.environ.get(TRUST_VARIABLE) == "true" and any(folder.glob("*.py"))


@contextmanager
def _own_code_refused(folder: Path) -> Iterator[None]:
    """Turn transformers' refusal to run a model's own code into a UserError."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UserError(
            f"{folder}: the model runs its own code; read that code, then set "
            f"fetch.model.trust_remote_code to true, or outside stages {TRUST_VARIABLE}=true"
        ) from None
