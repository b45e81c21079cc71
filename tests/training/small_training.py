"""A training that takes a second: examples, rows, settings, and a tiny model with an adapter."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.models.loading import load_bf16
from lmadapt.training.adapters import add_lora
from lmadapt.training.packing import PackedRow, pack
from lmadapt.training.trainer import TrainSettings

SETTINGS = TrainSettings(
    rows_per_step=2, learning_rate=1e-3, lr_schedule="cosine", warmup_fraction=0.1
)


def random_examples(count: int = 24) -> list[Encoded]:
    """Examples of 6 to 39 random tokens, of which all but the first third carry loss."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(6, 40, count)
    sequences = [generator.integers(5, 500, length).tolist() for length in lengths]
    return [Encoded(ids, [IGNORED] * (len(ids) // 3) + ids[len(ids) // 3 :]) for ids in sequences]


def random_rows(count: int = 24, *, max_tokens: int = 64) -> list[PackedRow]:
    return pack(random_examples(count), max_tokens=max_tokens, rows_per_step=2)


def with_adapter(base: Path, *, dropout: float = 0.1) -> Any:
    return add_lora(load_bf16(base), rank=2, alpha=4, seed=0, dropout=dropout)


def trainable_tensors(model: Any) -> dict[str, torch.Tensor]:
    """A copy of each tensor that is trained."""
    named = model.named_parameters()
    return {name: tensor.detach().clone() for name, tensor in named if tensor.requires_grad}


def same_tensors(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Whether both have the same tensors, bit by bit."""
    if left.keys() != right.keys():
        return False
    return all(torch.equal(left[name], right[name]) for name in left)
