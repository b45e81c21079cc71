from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lmadapt.models.chat import IGNORED
from lmadapt.training import labelled_head as module
from lmadapt.training.labelled_head import labelled_head, labelled_loss

B, L, H, V = 2, 9, 16, 50


def _inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(B, L, H, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, H, dtype=dtype, requires_grad=True)
    labels = torch.randint(0, V, (B, L))
    labels[0, 2:5] = IGNORED
    labels[1, 0] = IGNORED
    return hidden, weight, labels


def _full_loss(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = (hidden @ weight.t())[:, :-1].reshape(-1, V)
    return torch.nn.functional.cross_entropy(
        logits, labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="sum"
    )


def _likelihoods(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    labelled = labels[:, 1:] != IGNORED
    logarithms = (hidden @ weight.t())[:, :-1].log_softmax(-1)[labelled]
    return logarithms.gather(1, labels[:, 1:][labelled][:, None])[:, 0]


@pytest.mark.parametrize("chunk_positions", [1, 4, 1000])
def test_loss_and_both_gradients_equal_those_of_full_logits(
    monkeypatch: pytest.MonkeyPatch, chunk_positions: int
) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", {"cpu": chunk_positions * V})
    hidden, weight, labels = _inputs()
    expected = _full_loss(hidden, weight, labels)
    gradients = torch.autograd.grad(expected / 7, (hidden, weight))
    loss, each = labelled_loss(hidden, weight, labels)
    torch.testing.assert_close(each, -_likelihoods(hidden, weight, labels), rtol=1e-5, atol=1e-6)
    assert not each.requires_grad
    ours = torch.autograd.grad(loss / 7, (hidden, weight))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for found, wanted in zip(ours, gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_bf16_gradients_stay_within_bf16_rounding_of_the_exact_ones() -> None:
    hidden, weight, labels = _inputs(torch.bfloat16)
    (ours,) = torch.autograd.grad(labelled_loss(hidden, weight, labels)[0], hidden)
    exact = hidden.detach().float().requires_grad_()
    (wanted,) = torch.autograd.grad(_full_loss(exact, weight.detach().float(), labels), exact)
    assert (ours.float() - wanted).norm() < 0.01 * wanted.norm()


def test_a_certain_prediction_has_a_tiny_gradient_also_in_bf16() -> None:
    hidden = torch.eye(H)[None, :2].mul(20).bfloat16().requires_grad_()
    labels = torch.tensor([[IGNORED, 0]])
    (gradient,) = torch.autograd.grad(
        labelled_loss(hidden, torch.eye(H).bfloat16(), labels)[0], hidden
    )
    assert gradient.abs().max() < 1e-6  # subtracting the target after rounding would leave 1e-3


def test_positions_without_labels_get_no_gradient() -> None:
    hidden, weight, labels = _inputs()
    (gradient,) = torch.autograd.grad(labelled_loss(hidden, weight, labels)[0], hidden)
    unlabelled = torch.ones(B, L, dtype=torch.bool)
    unlabelled[:, :-1] = labels[:, 1:] == IGNORED
    assert (gradient[unlabelled] == 0).all()
    assert (gradient[~unlabelled] != 0).any(-1).all()


def test_a_model_computes_the_labelled_loss_within_the_block_and_is_as_before_after_it(
    tiny_model: Path,
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ids = torch.arange(10, 40)[None]
    labels = ids.clone()
    labels[0, :5] = IGNORED
    before = model(input_ids=ids, labels=labels)
    before.loss.backward()
    gradient = model.get_output_embeddings().weight.grad.clone()
    model.zero_grad()
    with labelled_head(model, ids[0]) as used:
        inside = model(input_ids=ids, labels=labels)
        inside.loss.backward()
        assert model(input_ids=ids).logits.shape == (1, 30, 500)
    assert used
    assert inside.logits is None
    torch.testing.assert_close(inside.loss, before.loss)
    torch.testing.assert_close(
        model.get_output_embeddings().weight.grad, gradient, rtol=1e-4, atol=1e-6
    )
    assert model(input_ids=ids, labels=labels).logits is not None


def test_a_model_with_softcapped_logits_keeps_its_own_loss(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, final_logit_softcapping=0.5
    )
    ids = torch.arange(10, 40)[None]
    expected = model(input_ids=ids, labels=ids).loss
    with labelled_head(model, ids[0]) as used:
        assert model(input_ids=ids, labels=ids).loss == expected
    assert not used
