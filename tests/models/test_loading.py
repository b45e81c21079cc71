from pathlib import Path

import pytest
import torch

from lmadapt.core.errors import UserError
from lmadapt.models.loading import load_bf16, load_for_inference, load_nf4

IDS = torch.tensor([[2, 40, 41, 42, 43, 44]])


def test_unpacked_nf4_gives_the_logits_of_the_4_bit_layers(tiny_model: Path) -> None:
    with torch.inference_mode():
        packed = load_nf4(tiny_model)(IDS).logits
        unpacked = load_for_inference(tiny_model, precision="nf4")(IDS).logits
        full = load_for_inference(tiny_model, precision="bf16")(IDS).logits
    assert torch.equal(packed, unpacked)
    assert not torch.equal(unpacked, full)


def test_gradient_passes_through_nf4_layers_after_an_evaluation(tiny_model: Path) -> None:
    model = load_nf4(tiny_model)
    with torch.inference_mode():
        model.eval()(IDS)
    model.train()
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    model(inputs_embeds=embedded).logits.float().logsumexp(-1).sum().backward()
    assert embedded.grad is not None
    assert float(embedded.grad.abs().sum()) > 0


def test_a_folder_without_a_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_bf16(tmp_path)


def test_only_safetensors_are_loaded(tiny_model: Path, tmp_path: Path) -> None:
    model = load_bf16(tiny_model)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_bf16(tmp_path)
