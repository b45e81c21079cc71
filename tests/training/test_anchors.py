import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from lmadapt.core.errors import UserError
from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.models.loading import load_bf16
from lmadapt.training.adapters import add_lora, trainable_parameters
from lmadapt.training.anchors import (
    KlDivergence,
    KlToBase,
    PathIntegral,
    Penalty,
    Quadratic,
    diagonal_fisher,
)
from lmadapt.training.loop import train
from lmadapt.training.packing import DOMAIN, REPLAY, PackedRow, pack
from lmadapt.training.params import KlTokens
from lmadapt.training.trainer import TrainSettings

LN3 = math.log(3.0)
SETTINGS = TrainSettings(rows_per_step=2, learning_rate=1e-2)


class TwoWords(torch.nn.Module):
    """A language model of two words and one parameter h: p(second word) = sigmoid(h) everywhere."""

    def __init__(self, h: float) -> None:
        super().__init__()
        self.h = torch.nn.Parameter(torch.tensor(h))
        self.head = torch.nn.Linear(1, 2, bias=False)
        self.head.weight = torch.nn.Parameter(torch.tensor([[0.0], [1.0]]), requires_grad=False)
        self.config = SimpleNamespace()
        self.device = torch.device("cpu")

    def get_output_embeddings(self) -> torch.nn.Linear:
        return self.head

    def base_model(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=self.h.expand(*input_ids.shape, 1))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        hidden = self.base_model(input_ids).last_hidden_state
        return SimpleNamespace(hidden_states=(hidden,), logits=self.head(hidden))


def _rows(count: int = 24) -> list[PackedRow]:
    """Every second example is replayed; all tokens but the first third of each carry loss."""
    generator = np.random.default_rng(0)
    sequences = [generator.integers(5, 500, n).tolist() for n in generator.integers(6, 40, count)]
    examples = [
        Encoded(ids, [IGNORED] * (len(ids) // 3) + ids[len(ids) // 3 :], replayed=index % 2 == 1)
        for index, ids in enumerate(sequences)
    ]
    return pack(examples, max_tokens=64, rows_per_step=2)


def _batch(row: PackedRow) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([values]) for name, values in row.items()}


def _adapted(base: Path, *, moved: bool = False) -> PeftModel:
    model: PeftModel = add_lora(load_bf16(base), rank=2, alpha=4, seed=0)
    torch.manual_seed(1)
    for name, tensor in model.named_parameters():
        if moved and "lora_B" in name:
            tensor.data.normal_(std=0.1)
    return model


def _train(base: Path, folder: Path, anchors: Any = lambda model: []) -> PeftModel:
    model = _adapted(base)
    penalties: list[Penalty] = anchors(model)
    train(
        model,
        _rows() * 4,
        SETTINGS,
        checkpoints=folder,
        penalties=penalties,
    )
    return model.eval()


@torch.no_grad()
def _kl_to_base(model: PeftModel, row: PackedRow, source: int | None = None) -> tuple[float, int]:
    """Summed KL(base || model) at the labelled positions of a source, and their number."""
    inputs = _batch(row)
    ids = {name: inputs[name] for name in ("input_ids", "position_ids")}
    now = model(**ids, use_cache=False).logits.float().log_softmax(-1)
    with model.disable_adapter():
        base = model(**ids, use_cache=False).logits.float().log_softmax(-1)
    chosen = inputs["labels"][0, 1:] != IGNORED
    if source is not None:
        chosen &= inputs["sources"][0, 1:] == source
    each = (base.exp() * (base - now)).sum(-1)[0, :-1]
    return each[chosen].sum().item(), int(chosen.sum())


def _total_kl(model: PeftModel, source: int | None = None) -> float:
    return sum(_kl_to_base(model, row, source)[0] for row in _rows())


def test_kl_and_its_gradient_follow_the_formula() -> None:
    hidden = torch.tensor([[LN3], [0.0]], requires_grad=True)  # (1/4, 3/4) and (1/2, 1/2)
    total = KlDivergence.apply(hidden, torch.zeros(2, 1), torch.tensor([[0.0], [1.0]]))
    assert total.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    (2 * total).backward()
    assert hidden.grad is not None
    assert hidden.grad.flatten().tolist() == pytest.approx([2 * (0.75 - 0.5), 0.0])


def test_kl_in_chunks_equals_kl_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden, base, weight = torch.randn(7, 4), torch.randn(7, 4), torch.randn(11, 4)
    results = []
    for elements in (11 * 100, 11 * 2):
        monkeypatch.setattr("lmadapt.training.anchors.KL_CHUNK_ELEMENTS", elements)
        leaf = hidden.clone().requires_grad_()
        total = KlDivergence.apply(leaf, base, weight)
        total.backward()
        results.append([total.item(), *leaf.grad.flatten().tolist()])
    assert results[0] == pytest.approx(results[1], rel=1e-5)


@pytest.mark.parametrize(
    ("tokens", "source"), [("all", None), ("replay", REPLAY), ("domain", DOMAIN)]
)
def test_the_kl_anchor_counts_the_labelled_tokens_of_its_source(
    tokens: KlTokens, source: int | None, tiny_model: Path
) -> None:
    model = _adapted(tiny_model, moved=True)
    row = _rows()[0]
    inputs = _batch(row)
    with torch.no_grad():
        hidden = (
            model.get_base_model()
            .base_model(
                input_ids=inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False
            )
            .last_hidden_state
        )
    found = KlToBase(model, 0.5, tokens)(inputs | {"hidden": hidden}, torch.tensor(40))
    total, count = _kl_to_base(model, row, source)
    assert 0 < count < len(row["labels"])
    assert found.item() == pytest.approx(0.5 * total / 40, rel=0.03)
    assert all(tensor.requires_grad for name, tensor in model.named_parameters() if "lora_" in name)


@pytest.fixture(scope="module")
def free(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> PeftModel:
    return _train(tiny_model, tmp_path_factory.mktemp("free"))


def test_a_model_trained_with_the_kl_anchor_predicts_more_like_its_base(
    free: PeftModel, tiny_model: Path, tmp_path: Path
) -> None:
    held = _train(tiny_model, tmp_path, lambda model: [KlToBase(model, 10.0, "all")])
    on_replay = _train(tiny_model, tmp_path, lambda model: [KlToBase(model, 10.0, "replay")])
    assert _total_kl(held) < 0.5 * _total_kl(free)
    assert _total_kl(on_replay, REPLAY) < 0.7 * _total_kl(free, REPLAY)
    assert _total_kl(on_replay, REPLAY) < 0.8 * _total_kl(on_replay, DOMAIN)


def test_the_kl_anchor_is_refused_without_an_adapter(tiny_model: Path) -> None:
    with pytest.raises(
        UserError, match=r"kl_weight is 0\.5.*no adapter.*l2_sp_weight or ewc_weight"
    ):
        KlToBase(load_bf16(tiny_model), 0.5, "all")


def test_l2_sp_and_ewc_follow_their_formulas_over_the_micro_batches_of_a_step() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 2.0]])
    l2_sp = Quadratic(model, 0.5)
    ewc = Quadratic(model, 0.5, {"weight": torch.tensor([[3.0, 0.25]])})
    model.weight.data = torch.tensor([[2.0, 4.0]])
    thirds = [
        {"labels": torch.tensor([[IGNORED, *[7] * n]])} for n in (1, 2)
    ]  # of 3 labelled tokens

    def term(anchor: Quadratic) -> torch.Tensor:
        return torch.stack([anchor(part, torch.tensor(3)) for part in thirds]).sum()

    assert term(l2_sp).item() == pytest.approx(0.5 / 2 * (1 + 4))
    assert term(ewc).item() == pytest.approx(0.5 / 2 * (3 * 1 + 0.25 * 4))
    term(ewc).backward()
    assert model.weight.grad is not None
    assert model.weight.grad.flatten().tolist() == pytest.approx([0.5 * 3 * 1, 0.5 * 0.25 * 2])


def test_the_fisher_information_is_the_variance_of_the_score() -> None:
    # For h = ln 3, d log p(y) / dh = y - 3/4. Its square is 1/16 with probability 3/4, and 9/16
    # with probability 1/4: 3/16 in the mean.
    examples = [Encoded([0, 1], [IGNORED, 1])] * 600
    fisher = diagonal_fisher(TwoWords(LN3), examples, seed=0)
    assert list(fisher) == ["h"]
    assert fisher["h"].item() == pytest.approx(3 / 16, rel=0.12)
    assert diagonal_fisher(TwoWords(LN3), examples, seed=0)["h"] == fisher["h"]


def test_fisher_information_is_per_labelled_token() -> None:
    lone, pairs = [Encoded([0, 1], [IGNORED, 1])] * 600, [Encoded([0, 1, 1], [IGNORED, 1, 1])] * 600
    values = [
        diagonal_fisher(TwoWords(0.0), examples, seed=0)["h"].item() for examples in (lone, pairs)
    ]
    assert values == pytest.approx([0.25, 0.25], rel=0.12)


def test_an_adapter_at_its_start_has_fisher_information_in_b_only(tiny_model: Path) -> None:
    model = _adapted(tiny_model)
    before = [tensor.clone() for tensor in model.parameters()]
    fisher = diagonal_fisher(model, [Encoded([5, 6, 7, 8], [IGNORED, 6, 7, 8])] * 4, seed=0)
    assert all(tensor.any() == ("lora_B" in name) for name, tensor in fisher.items())
    assert all(
        torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True)
    )
    assert all(tensor.grad is None for tensor in model.parameters())


def test_the_path_integral_follows_the_formula() -> None:
    # Two steps on the loss h^2 / 2, whose gradient is h: from 2 to 1, then from 1 to 0.5.
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data = torch.tensor([[2.0]])
    path = PathIntegral(model)
    for after in (1.0, 0.5):
        model.weight.grad = model.weight.detach().clone()
        path.on_pre_optimizer_step(None, None, None)
        model.weight.data = torch.tensor([[after]])
        path.on_optimizer_step(None, None, None)
    work = 2.0 * 1.0 + 1.0 * 0.5
    assert path.importance()["weight"].item() == pytest.approx(work / (1.5**2 + 1e-3))


def test_the_path_of_a_training_gives_importance_to_the_parameters_it_moved(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = _adapted(tiny_model)
    path = PathIntegral(model)
    train(model, _rows(), SETTINGS, checkpoints=tmp_path, callbacks=[path])
    importance = path.importance()
    assert all((tensor >= 0).all() and tensor.any() for tensor in importance.values())
    worked = sum(work.sum().item() for work in path.work.values())
    assert worked > 0  # in sum, the steps lowered the loss


def test_an_adapter_with_an_anchor_on_its_parameters_drifts_less(
    free: PeftModel, tiny_model: Path, tmp_path: Path
) -> None:
    def drift(model: PeftModel, weights: dict[str, torch.Tensor] | None = None) -> float:
        pairs = zip(
            trainable_parameters(model), trainable_parameters(_adapted(tiny_model)), strict=True
        )
        squares = ((name, (now - start).square()) for (name, now), (_, start) in pairs)
        return sum(
            (square * (weights[name] if weights else 1)).sum().item() for name, square in squares
        )

    general = [Encoded([5, 6, 7, 8], [IGNORED, 6, 7, 8])] * 4
    fisher = diagonal_fisher(_adapted(tiny_model), general, seed=0)
    l2_sp = _train(tiny_model, tmp_path, lambda model: [Quadratic(model, 1.0)])
    ewc = _train(tiny_model, tmp_path, lambda model: [Quadratic(model, 1e5, fisher)])
    assert drift(l2_sp) < 0.5 * drift(free)
    assert drift(ewc, fisher) < 0.5 * drift(free, fisher)
