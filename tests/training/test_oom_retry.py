from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from lmadapt.core.errors import UserError
from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.models.loading import load_bf16
from lmadapt.training.adapters import add_lora, trainable_parameters
from lmadapt.training.anchors import KlToBase
from lmadapt.training.loop import train
from lmadapt.training.oom_retry import split_rows
from lmadapt.training.packing import pack
from lmadapt.training.result import TrainingResult
from lmadapt.training.trainer import TrainSettings

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
EXAMPLES = [
    Encoded(list(range(5, 5 + n)), [IGNORED] * 3 + list(range(8, 5 + n)))
    for n in [12, 20, 7, 25] * 12
]
ROWS = pack(EXAMPLES, max_tokens=64, rows_per_step=3)


class FullFrom(TrainerCallback):
    """From step `step` on, passes of more than `room` tokens fail; half done with `backward`."""

    def __init__(
        self,
        model: Any,
        *,
        room: int,
        backward: bool = False,
        error: Exception = FULL,
        step: int = 2,
    ) -> None:
        self.room, self.error, self.step = room, error, step
        self.full = False
        self.failed = 0
        layer = model.get_base_model().model.layers[0]
        if backward:
            layer.register_full_backward_hook(self.refuse)
        else:
            layer.register_forward_pre_hook(self.refuse)

    def refuse(self, module: Any, *given: tuple[torch.Tensor, ...]) -> None:
        tensors = given[-1]  # the inputs, or the gradients of the outputs
        if self.full and tensors[0].shape[1] > self.room:
            self.failed += 1
            raise self.error

    def on_substep_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.full = state.global_step >= self.step  # after the first of its micro-batches


def _trained(
    base: Path, folder: Path, full: Callable[[Any], list[Any]], *, dropout: float = 0.0
) -> tuple[Any, TrainingResult]:
    model = add_lora(load_bf16(base), rank=2, alpha=4, seed=0, dropout=dropout)
    result = train(
        model,
        ROWS,
        TrainSettings(rows_per_step=3, learning_rate=1e-3),
        checkpoints=folder,
        penalties=[KlToBase(model, 0.1, "all")],
        callbacks=full(model),
    )
    return dict(trainable_parameters(model)), result


@pytest.fixture(scope="module")
def undisturbed(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, TrainingResult]:
    return _trained(tiny_model, tmp_path_factory.mktemp("undisturbed"), lambda model: [])


@pytest.mark.parametrize("max_tokens", [1, 20, 32, 64])
def test_parts_of_a_row_are_single_examples_or_whole_ones_within_the_limit(
    max_tokens: int,
) -> None:
    row = {name: torch.tensor([values]) for name, values in ROWS[0].items()}
    parts = split_rows(row, max_tokens)
    for name, tensor in row.items():
        assert torch.equal(torch.cat([part[name] for part in parts], 1), tensor)
    assert all(part["position_ids"][0, 0] == 0 for part in parts)
    assert all(
        part["input_ids"].shape[1] <= max_tokens or (part["position_ids"] == 0).sum() == 1
        for part in parts
    )


@pytest.mark.parametrize(
    ("backward", "error"), [(False, FULL), (True, FULL), (False, MemoryError("not enough memory"))]
)
def test_a_step_without_memory_starts_again_in_halves_and_training_ends_in_the_same_place(
    backward: bool,
    error: Exception,
    undisturbed: tuple[Any, TrainingResult],
    tiny_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    full: list[FullFrom] = []

    def fill(model: Any) -> list[FullFrom]:
        full.append(FullFrom(model, room=40, backward=backward, error=error))
        return full

    expected, plain = undisturbed
    adapter, result = _trained(tiny_model, tmp_path / "full", fill)
    assert full[0].failed == 1
    assert "step 3: not enough memory" in caplog.text
    assert "batch and loss stay the same" in caplog.text
    assert result.steps[:2] == plain.steps[:2]
    assert [one["step"] for one in result.steps] == [one["step"] for one in plain.steps]
    for one, other in zip(result.steps, plain.steps, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-3)
        assert one["domain"] == pytest.approx(other["domain"], abs=1e-3)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=2e-2)
        assert one["learning_rate"] == other["learning_rate"]
    moved = max((adapter[name] - tensor).abs().max() for name, tensor in expected.items())
    # Adam's steps have the size of the learning rate, also where a gradient is only rounding.
    assert moved < 1e-3 * len(plain.steps)


def test_a_step_that_starts_again_draws_the_same_dropout(tiny_model: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"base": tiny_model, "dropout": 0.5}
    first = _trained(
        folder=tmp_path / "1", full=lambda model: [FullFrom(model, room=40)], **options
    )
    second = _trained(
        folder=tmp_path / "2",
        full=lambda model: [FullFrom(model, room=40, backward=True)],
        **options,
    )
    assert first[1] == second[1]  # though one drew more numbers before it failed
    assert all(torch.equal(second[0][name], tensor) for name, tensor in first[0].items())


def test_an_example_without_memory_stops_training_and_the_error_says_what_to_change(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"step 3: not enough memory for 25 tokens .* lower max_sequence_tokens"
    ):
        _trained(tiny_model, tmp_path, lambda model: [FullFrom(model, room=20)])


def test_other_errors_are_not_mistaken_for_a_lack_of_memory(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        _trained(
            tiny_model,
            tmp_path,
            lambda model: [FullFrom(model, room=40, error=RuntimeError("shapes"))],
        )
