from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from lmadapt.core.errors import UserError
from lmadapt.models.loading import load_bf16
from lmadapt.models.merging import merge_adapter

SAMPLE = torch.arange(10, 60)


def with_random_b(base: Path, *, scale: float) -> Any:
    """The model with a LoRA adapter whose B has the standard deviation `scale`."""
    torch.manual_seed(1)
    config = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load_bf16(base), config)
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            tensor.data.normal_(0, scale)
    return model.eval()


def test_merging_keeps_the_predictions_within_bf16_rounding(tiny_model: Path) -> None:
    model = with_random_b(tiny_model, scale=0.02)
    merged, difference = merge_adapter(model, SAMPLE)
    assert 0 < difference["kl_nats"] < 0.001
    assert 0 < difference["logits_mean_absolute"] < 0.05
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_a_merge_that_changes_the_model_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = with_random_b(tiny_model, scale=1.0)
    monkeypatch.setattr(
        type(model.base_model), "merge_and_unload", lambda self: load_bf16(tiny_model)
    )
    with pytest.raises(UserError, match="merging the adapter changed the model: KL"):
        merge_adapter(model, SAMPLE)
