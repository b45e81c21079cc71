from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from lmadapt.core.errors import UserError
from lmadapt.models.loading import load_bf16, load_nf4
from lmadapt.training.adapters import add_lora, save_adapter

SAMPLE = torch.arange(10, 60)


def _perturbed(model: Any, scale: float = 0.02) -> Any:
    torch.manual_seed(1)
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            tensor.data.normal_(0, scale)
    return model.eval()


def _targets(model: Any) -> set[str]:
    return {
        name.split(".")[-4] for name, tensor in model.named_parameters() if tensor.requires_grad
    }


@pytest.mark.parametrize("load", [load_bf16, load_nf4])
def test_retain_adapts_the_mlp_only(tiny_model: Path, load: Any) -> None:
    mlp = {"gate_proj", "up_proj", "down_proj"}
    assert _targets(add_lora(load(tiny_model), rank=2, alpha=4, seed=0, targets="retain")) == mlp
    everything = _targets(add_lora(load(tiny_model), rank=2, alpha=4, seed=0))
    assert everything == mlp | {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_retain_is_refused_where_a_model_has_no_mlp() -> None:
    with pytest.raises(UserError, match=r"retain finds no linear layers.*allowed: all-linear"):
        add_lora(
            torch.nn.Sequential(torch.nn.Linear(2, 2)), rank=2, alpha=4, seed=0, targets="retain"
        )


def test_a_saved_adapter_loads_to_equal_logits_and_names_no_path(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = _perturbed(add_lora(load_nf4(tiny_model), rank=2, alpha=4, seed=0))
    tmp_path.joinpath("adapter").mkdir()
    save_adapter(model, tmp_path / "adapter", base_name="pretrained")
    loaded = PeftModel.from_pretrained(load_nf4(tiny_model), tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(loaded.eval()(SAMPLE[None]).logits, model(SAMPLE[None]).logits)
    assert sorted(file.name for file in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert str(tiny_model) not in (tmp_path / "adapter" / "adapter_config.json").read_text()


def test_rslora_scales_by_the_root_of_the_rank_and_dora_adds_a_length_for_each_row(
    tiny_model: Path,
) -> None:
    for variant, scale, lengths in (("lora", 2.0, 0), ("rslora", 4.0, 0), ("dora", 2.0, 64)):
        model = add_lora(load_bf16(tiny_model), rank=4, alpha=8, seed=0, variant=variant)
        layer = model.base_model.model.model.layers[0].self_attn.q_proj
        assert layer.scaling == {"default": scale}
        magnitudes = [tensor for name, tensor in layer.named_parameters() if "magnitude" in name]
        assert sum(tensor.numel() for tensor in magnitudes) == lengths
