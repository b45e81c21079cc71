"""A LoRA adapter over a tiny NF4 model, as the stage sft writes it."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from lmadapt.models.loading import load_nf4, load_tokenizer


def make_adapter(base: Path, folder: Path, *, seed: int = 0) -> Path:
    """Write an adapter of random LoRA matrices, which changes every answer, with its tokenizer."""
    torch.manual_seed(seed)
    model = get_peft_model(
        load_nf4(base), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    return folder
