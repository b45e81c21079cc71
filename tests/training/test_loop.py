from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from lmadapt.core.errors import UserError
from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.models.loading import load_bf16, load_nf4, load_unpacked_nf4
from lmadapt.training.adapters import add_lora
from lmadapt.training.loop import train
from lmadapt.training.packing import DOMAIN, REPLAY, PackedRow, pack
from lmadapt.training.replay import mix_replay
from lmadapt.training.result import TrainingResult
from tests.training.small_training import (
    SETTINGS,
    random_examples,
    random_rows,
    same_tensors,
    trainable_tensors,
    with_adapter,
)


class KeepGradient(TrainerCallback):
    """The gradient of the first optimiser step, clipped or not, and its norm before clipping."""

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        if state.global_step == 0:
            tensors = model.named_parameters()
            self.gradient = {
                name: tensor.grad.clone() for name, tensor in tensors if tensor.requires_grad
            }


class EvaluateInTheMiddle(TrainerCallback):
    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        model.eval()
        with torch.no_grad():
            model(input_ids=torch.arange(10, 30)[None])
        model.train()


def test_the_loss_of_a_step_is_the_mean_over_all_labelled_tokens_of_its_examples(
    tiny_model: Path, tmp_path: Path
) -> None:
    examples = random_examples()
    rows = pack(examples, max_tokens=64, rows_per_step=100)
    result = train(
        with_adapter(tiny_model, dropout=0.0),
        rows,
        replace(SETTINGS, rows_per_step=100),
        checkpoints=tmp_path,
    )
    model, losses = load_bf16(tiny_model).float(), []
    for example in examples:
        ids, labels = torch.tensor(example.input_ids), torch.tensor(example.labels)
        logits = model(input_ids=ids[None]).logits[0, :-1]
        losses.append(
            torch.nn.functional.cross_entropy(
                logits, labels[1:], ignore_index=IGNORED, reduction="sum"
            )
        )
    expected = sum(losses).item() / sum(example.loss_tokens for example in examples)
    assert result.steps[0]["loss"] == pytest.approx(expected, rel=3e-3)
    assert result.loss_tokens == sum(example.loss_tokens for example in examples)


def test_a_batch_in_micro_batches_gives_the_gradient_of_one_large_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    gradients = []
    for rows in (random_rows(max_tokens=64), random_rows(max_tokens=1000)):
        kept = KeepGradient()
        model = with_adapter(tiny_model, dropout=0.0)
        train(
            model,
            rows,
            replace(SETTINGS, rows_per_step=len(rows)),
            checkpoints=tmp_path,
            callbacks=[kept],
        )
        gradients.append(kept.gradient)
    many, one = gradients
    assert len(random_rows()) > 5 > len(random_rows(max_tokens=1000))
    moved = [name for name in one if one[name].any()]
    assert len(moved) == len(one) // 2  # LoRA's B; A has none in the first step
    for name in moved:
        assert (many[name] - one[name]).norm() < 0.02 * one[name].norm(), name


def test_penalties_of_micro_batches_add_up_to_a_term_of_the_loss_of_a_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    seen = []

    def penalty(inputs: dict[str, torch.Tensor], step_tokens: torch.Tensor) -> torch.Tensor:
        seen.append(inputs["sources"])
        return 7.0 * (inputs["labels"] != IGNORED).sum() / step_tokens

    losses = []
    for penalties in ([], [penalty], [penalty, penalty]):
        model = with_adapter(tiny_model, dropout=0.0)
        result = train(
            model,
            random_rows(),
            replace(SETTINGS, rows_per_step=5),
            checkpoints=tmp_path,
            penalties=penalties,
        )
        losses.append([step["loss"] for step in result.steps])
    assert losses[1] == pytest.approx([loss + 7 for loss in losses[0]], rel=1e-4)
    assert losses[2] == pytest.approx([loss + 14 for loss in losses[0]], rel=1e-4)
    assert seen[0].tolist() == [random_rows()[0]["sources"]]


def test_two_runs_give_the_same_adapter_bit_by_bit(tiny_model: Path, tmp_path: Path) -> None:
    models = [
        add_lora(load_unpacked_nf4(tiny_model), rank=2, alpha=4, dropout=0.1, seed=0)
        for _ in range(2)
    ]
    results = [train(model, random_rows(), SETTINGS, checkpoints=tmp_path) for model in models]
    assert same_tensors(*map(trainable_tensors, models))
    assert results[0] == results[1]


def test_unpacked_nf4_trains_the_same_adapter_as_packed(tiny_model: Path, tmp_path: Path) -> None:
    models = [
        add_lora(load(tiny_model), rank=2, alpha=4, seed=0)
        for load in (load_nf4, load_unpacked_nf4)
    ]
    packed, unpacked = (
        train(model, random_rows(), SETTINGS, checkpoints=tmp_path) for model in models
    )
    assert [step["loss"] for step in packed.steps] == pytest.approx(
        [step["loss"] for step in unpacked.steps], rel=1e-3
    )


def test_evaluating_in_the_middle_of_training_changes_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    models = [add_lora(load_nf4(tiny_model), rank=2, alpha=4, seed=0) for _ in range(2)]
    start = trainable_tensors(models[0])
    for model, between in zip(models, ([], [EvaluateInTheMiddle()]), strict=True):
        train(model, random_rows(), SETTINGS, checkpoints=tmp_path, callbacks=between)
    assert same_tensors(*map(trainable_tensors, models))
    first_layer = [name for name in start if ".layers.0." in name]
    assert all(
        not torch.equal(start[name], trainable_tensors(models[1])[name]) for name in first_layer
    )


def test_training_all_of_a_tied_model_moves_its_embedding(tiny_model: Path, tmp_path: Path) -> None:
    model = load_bf16(tiny_model).float()
    before = trainable_tensors(model)
    result = train(model, random_rows(), SETTINGS, checkpoints=tmp_path)
    assert all(
        not torch.equal(before[name], tensor) for name, tensor in trainable_tensors(model).items()
    )
    assert result.trainable_parameters == sum(tensor.numel() for tensor in before.values())
    assert result.steps[-1]["loss"] < result.steps[0]["loss"]
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_training_leaves_forward_and_configuration_as_they_were(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = load_bf16(tiny_model).float()
    train(model, random_rows(4), SETTINGS, checkpoints=tmp_path)
    assert "forward" not in model.__dict__
    assert model.config.use_cache
    assert model(input_ids=torch.arange(5, 9)[None]).logits.shape == (1, 4, 500)


def _labelled(row: PackedRow, source: int) -> int:
    """Tokens of the row from `source` that carry loss."""
    pairs = zip(row["labels"], row["sources"], strict=True)
    return sum(label != IGNORED and origin == source for label, origin in pairs)


def test_the_loss_of_a_step_is_the_mean_of_its_sources_by_their_labelled_tokens(
    tiny_model: Path, tmp_path: Path
) -> None:
    examples = [
        replace(example, replayed=place % 3 == 0) for place, example in enumerate(random_examples())
    ]
    rows = pack(examples, max_tokens=64, rows_per_step=2)
    steps = train(with_adapter(tiny_model), rows, SETTINGS, checkpoints=tmp_path).steps
    for number, step in enumerate(steps):
        rows_of_step = rows[2 * number : 2 * number + 2]
        domain = sum(_labelled(row, DOMAIN) for row in rows_of_step)
        replay = sum(_labelled(row, REPLAY) for row in rows_of_step)
        nats = domain * step.get("domain", 0) + replay * step.get("replay", 0)
        assert step["loss"] == pytest.approx(nats / (domain + replay), rel=1e-5)
    assert any(step.get("replay", 0) != pytest.approx(step["domain"], rel=1e-3) for step in steps)


def test_several_rows_in_a_pass_give_the_loss_of_one_at_a_time(
    tiny_model: Path, tmp_path: Path
) -> None:
    models = [with_adapter(tiny_model, dropout=0.0) for _ in range(2)]
    rows = pack(random_examples(), max_tokens=64, rows_per_step=4)
    results = []
    for model, size in zip(models, (1, 4), strict=True):
        settings = replace(SETTINGS, rows_per_step=4, micro_batch_rows=size)
        results.append(train(model, rows, settings, checkpoints=tmp_path / str(size)))
    losses = [[step["loss"] for step in result.steps] for result in results]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert results[1].steps[0]["gradient_norm"] == pytest.approx(
        results[0].steps[0]["gradient_norm"], rel=2e-2
    )


def test_the_error_for_a_micro_batch_that_does_not_divide_a_step_names_what_is_allowed(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"micro_batch_rows is 3; allowed with 2 rows a step: 1, 2"):
        train(
            with_adapter(tiny_model),
            random_rows(),
            replace(SETTINGS, micro_batch_rows=3),
            checkpoints=tmp_path,
        )


@pytest.fixture(scope="module")
def plain(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    model, folder = with_adapter(tiny_model, dropout=0.0), tmp_path_factory.mktemp("plain")
    return train(model, random_rows(), SETTINGS, checkpoints=folder)


@pytest.mark.parametrize("wanted", [True, False, "auto"])
def test_activation_checkpointing_follows_its_setting_and_changes_no_loss(
    wanted: Any, plain: TrainingResult, tiny_model: Path, tmp_path: Path
) -> None:
    seen: list[bool] = []

    class Look(TrainerCallback):
        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
        ) -> None:
            seen.append(model.is_gradient_checkpointing)

    result = train(
        with_adapter(tiny_model, dropout=0.0),
        random_rows(),
        replace(SETTINGS, activation_checkpointing=wanted),
        checkpoints=tmp_path / "asked",
        callbacks=[Look()],
    )
    assert set(seen) == {wanted is True}
    assert [step["loss"] for step in result.steps] == [step["loss"] for step in plain.steps]


def test_a_text_too_long_for_the_model_and_weights_that_are_not_finite_are_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = with_adapter(tiny_model)
    model.config.max_position_embeddings = 20
    with pytest.raises(
        UserError, match=r"an example has \d+ tokens, and the model takes at most 20"
    ):
        train(model, random_rows(), SETTINGS, checkpoints=tmp_path)
    model = load_bf16(tiny_model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"not finite: .*layers.1.mlp.up_proj.base_layer.weight"):
        train(
            add_lora(model, rank=2, alpha=4, seed=0), random_rows(), SETTINGS, checkpoints=tmp_path
        )


def test_every_optimiser_step_has_about_the_asked_share_of_replay() -> None:
    domain = [
        [Encoded([10] * n, [10] * n)]
        for n in np.random.default_rng(0).integers(8, 40, 200).tolist()
    ]
    replay = [
        [Encoded([99] * n, [99] * n)]
        for n in np.random.default_rng(1).integers(8, 40, 200).tolist()
    ]
    mixture = mix_replay(domain, replay, fraction=0.2, max_tokens=6000, seed=0)
    rows = pack(mixture.examples, max_tokens=256, rows_per_step=4)
    for start in range(0, len(rows) - 4, 4):
        labels: list[int] = []
        for row in rows[start : start + 4]:
            labels += [label for label in row["labels"] if label != IGNORED]
        assert labels.count(99) / len(labels) == pytest.approx(0.2, abs=0.05)
