import contextlib
import errno
import itertools
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from watching import callbacks

from lmadapt.core.errors import Interrupted, UserError
from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.models.loading import load_bf16, load_nf4, load_unpacked_nf4
from lmadapt.training import loop
from lmadapt.training.adapters import add_lora
from lmadapt.training.loop import Outcome, lr_factor, train, trained
from lmadapt.training.packing import DOMAIN, REPLAY, Row, pack
from lmadapt.training.params import TrainingParams
from lmadapt.training.replay import mix_replay

SETTINGS: dict[str, Any] = {
    "rows_per_step": 2,
    "learning_rate": 1e-3,
    "lr_schedule": "cosine",
    "warmup_fraction": 0.1,
    "weight_decay": 0.0,
    "seed": 0,
}
PARAMS: dict[str, Any] = {
    **{name: value for name, value in SETTINGS.items() if name != "rows_per_step"},
    **{
        "lora_rank": 2,
        "method": "lora",
        "lora_alpha": 4,
        "lora_variant": "lora",
        "optimizer": "auto",
        "embedding_learning_rate_factor": 1.0,
        "micro_batch_rows": "auto",
        "activation_checkpointing": "auto",
        "target_modules": "all-linear",
        "replay_fraction": 0.1,
        "replay_source": "general",
        "replay_weights": {},
        "decay_fraction": 0.2,
        "checkpoint_minutes": 5.0,
        "accelerate_config": None,
    },
    **{
        "kl_weight": 0.0,
        "kl_tokens": "replay",
        "l2_sp_weight": 0.0,
        "ewc_weight": 0.0,
        "si_weight": 0.0,
    },
    **{"fisher_examples": 8, "frozen_layers": 0},
    **{"heldout_every_steps": 0, "heldout_tokens": 500, "keep": "last", "patience": None},
    **{"retention_budget_bits_per_byte": None},
    **{"max_tokens": 9000, "max_sequence_tokens": 512, "batch_tokens": 1100},
}


def _examples(count: int = 24, seed: int = 0) -> list[Encoded]:
    generator = np.random.default_rng(seed)
    sequences = [generator.integers(5, 500, n).tolist() for n in generator.integers(6, 40, count)]
    return [Encoded(ids, [IGNORED] * (len(ids) // 3) + ids[len(ids) // 3 :]) for ids in sequences]


def _rows(count: int = 24, *, max_tokens: int = 64) -> list[Row]:
    return pack(_examples(count), max_tokens=max_tokens, rows_per_step=2)


def _trainable(model: Any) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().clone()
        for name, tensor in model.named_parameters()
        if tensor.requires_grad
    }


def _equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


def _lora(base: Path) -> Any:
    return add_lora(load_bf16(base), rank=2, alpha=4, seed=0, dropout=0.1)


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
    examples = _examples()
    rows = pack(examples, max_tokens=64, rows_per_step=100)
    outcome = train(
        add_lora(load_bf16(tiny_model), rank=2, alpha=4, seed=0),
        rows,
        **SETTINGS | {"rows_per_step": 100},
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
    assert outcome.steps[0]["loss"] == pytest.approx(expected, rel=3e-3)
    assert outcome.loss_tokens == sum(example.loss_tokens for example in examples)


def test_a_batch_in_micro_batches_gives_the_gradient_of_one_large_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    gradients = []
    for rows in (_rows(max_tokens=64), _rows(max_tokens=1000)):
        kept = KeepGradient()
        model = add_lora(load_bf16(tiny_model), rank=2, alpha=4, seed=0)
        train(
            model,
            rows,
            **SETTINGS | {"rows_per_step": len(rows)},
            checkpoints=tmp_path,
            callbacks=[kept],
        )
        gradients.append(kept.gradient)
    many, one = gradients
    assert len(_rows()) > 5 > len(_rows(max_tokens=1000))
    moved = [name for name in one if one[name].any()]
    assert len(moved) == len(one) // 2  # LoRA's B; A has none in the first step
    for name in moved:
        assert (many[name] - one[name]).norm() < 0.02 * one[name].norm(), name


def test_what_penalties_give_for_its_micro_batches_adds_up_to_a_term_of_the_loss_of_a_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    seen = []

    def penalty(inputs: dict[str, torch.Tensor], step_tokens: torch.Tensor) -> torch.Tensor:
        seen.append(inputs["sources"])
        return 7.0 * (inputs["labels"] != IGNORED).sum() / step_tokens

    losses = []
    for penalties in ([], [penalty], [penalty, penalty]):
        model = add_lora(load_bf16(tiny_model), rank=2, alpha=4, seed=0)
        outcome = train(
            model,
            _rows(),
            **SETTINGS | {"rows_per_step": 5},
            checkpoints=tmp_path,
            penalties=penalties,
        )
        losses.append([step["loss"] for step in outcome.steps])
    assert losses[1] == pytest.approx([loss + 7 for loss in losses[0]], rel=1e-4)
    assert losses[2] == pytest.approx([loss + 14 for loss in losses[0]], rel=1e-4)
    assert seen[0].tolist() == [_rows()[0]["sources"]]


def test_two_runs_give_the_same_adapter_bit_by_bit(tiny_model: Path, tmp_path: Path) -> None:
    models = [
        add_lora(load_unpacked_nf4(tiny_model), rank=2, alpha=4, dropout=0.1, seed=0)
        for _ in range(2)
    ]
    outcomes = [train(model, _rows(), **SETTINGS, checkpoints=tmp_path) for model in models]
    assert _equal(*map(_trainable, models))
    assert outcomes[0] == outcomes[1]


def test_unpacked_nf4_trains_the_same_adapter_as_packed(tiny_model: Path, tmp_path: Path) -> None:
    models = [
        add_lora(load(tiny_model), rank=2, alpha=4, seed=0)
        for load in (load_nf4, load_unpacked_nf4)
    ]
    packed, unpacked = (train(model, _rows(), **SETTINGS, checkpoints=tmp_path) for model in models)
    assert [step["loss"] for step in packed.steps] == pytest.approx(
        [step["loss"] for step in unpacked.steps], rel=1e-3
    )


def test_evaluating_in_the_middle_of_training_changes_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    models = [add_lora(load_nf4(tiny_model), rank=2, alpha=4, seed=0) for _ in range(2)]
    start = _trainable(models[0])
    for model, between in zip(models, ([], [EvaluateInTheMiddle()]), strict=True):
        train(model, _rows(), **SETTINGS, checkpoints=tmp_path, callbacks=between)
    assert _equal(*map(_trainable, models))
    first_layer = [name for name in start if ".layers.0." in name]
    assert all(not torch.equal(start[name], _trainable(models[1])[name]) for name in first_layer)


def test_training_all_of_a_tied_model_moves_its_embedding(tiny_model: Path, tmp_path: Path) -> None:
    model = load_bf16(tiny_model).float()
    before = _trainable(model)
    outcome = train(model, _rows(), **SETTINGS, checkpoints=tmp_path)
    assert all(not torch.equal(before[name], tensor) for name, tensor in _trainable(model).items())
    assert outcome.trainable_parameters == sum(tensor.numel() for tensor in before.values())
    assert outcome.steps[-1]["loss"] < outcome.steps[0]["loss"]
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_training_leaves_forward_and_configuration_as_they_were(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = load_bf16(tiny_model).float()
    train(model, _rows(4), **SETTINGS, checkpoints=tmp_path)
    assert "forward" not in model.__dict__
    assert model.config.use_cache
    assert model(input_ids=torch.arange(5, 9)[None]).logits.shape == (1, 4, 500)


def test_layers_that_pass_no_gradient_to_their_inputs_stop_the_training_in_its_first_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = load_nf4(tiny_model)
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.register_forward_hook(
                lambda _, __, output: output.detach()
            )  # what the repacked layers amount to
    with pytest.raises(
        UserError, match=r"no gradient reaches \d+ trainable tensors in step 1, such as .*lora_B"
    ):
        train(add_lora(model, rank=2, alpha=4, seed=0), _rows(), **SETTINGS, checkpoints=tmp_path)


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    class Poison(TrainerCallback):
        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
        ) -> None:
            if state.global_step == 4:
                next(iter(model.parameters())).data.fill_(math.nan)

    model = add_lora(load_bf16(tiny_model), rank=2, alpha=4, seed=0)
    with pytest.raises(UserError, match=r"step 5: the loss is nan.*learning_rate"):
        train(model, _rows(), **SETTINGS, checkpoints=tmp_path, callbacks=[Poison()])


def test_warm_up_starts_above_zero_and_cosine_ends_near_it() -> None:
    factors = [lr_factor(step, 20, schedule="cosine", warmup_fraction=0.2) for step in range(20)]
    assert factors[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[4:]))
    assert 0 < factors[-1] < 0.02
    assert lr_factor(19, 20, schedule="constant", warmup_fraction=0.2) == 1.0


def test_wsd_is_constant_until_its_decay_and_falls_as_one_less_the_root() -> None:
    factors = [
        lr_factor(n, 20, schedule="wsd", warmup_fraction=0.1, decay_fraction=0.2) for n in range(20)
    ]
    assert factors[:2] == pytest.approx([1 / 3, 2 / 3])
    assert factors[2:17] == [1.0] * 15
    assert factors[16:] == pytest.approx([1 - math.sqrt(n / 4) for n in range(4)])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_the_training_after_the_step_under_way_and_it_goes_on_to_the_same_adapter(
    number: int, code: int, tiny_model: Path, tmp_path: Path
) -> None:
    class Signalled(TrainerCallback):
        def on_substep_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step == 2:
                os.kill(os.getpid(), number)

    models = [_lora(tiny_model) for _ in range(3)]
    whole = train(models[0], _rows(), **SETTINGS, checkpoints=tmp_path / "whole")
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"told to end after step 3 of \d+; run it again") as told:
        train(models[1], _rows(), **SETTINGS, checkpoints=tmp_path / "cut", callbacks=[Signalled()])
    assert told.value.exit_code == code
    assert signal.getsignal(number) == before
    assert [folder.name for folder in (tmp_path / "cut").iterdir()] == ["checkpoint-3"]
    assert train(models[2], _rows(), **SETTINGS, checkpoints=tmp_path / "cut") == whole
    assert _equal(_trainable(models[2]), _trainable(models[0]))


def test_checkpoints_are_written_by_time_and_on_request_and_one_is_kept(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written: dict[str, list[int]] = {}

    class Noted(TrainerCallback):
        def __init__(self, name: str) -> None:
            self.steps = written.setdefault(name, [])

        def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if args.output_dir == "asked" and state.global_step == 1:
                callbacks.CHECKPOINT_NOW.parent.mkdir()
                callbacks.CHECKPOINT_NOW.touch()

        def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.steps.append(state.global_step)
            assert [folder.name for folder in Path(args.output_dir).iterdir()] == [
                f"checkpoint-{state.global_step}"
            ]

    for name, minutes in (("always", 0.0), ("asked", 5.0)):
        options = {
            "checkpoint_minutes": minutes,
            "callbacks": [Noted(name)],
            "checkpoints": Path(name),
        }
        steps = len(train(_lora(tiny_model), _rows(), **SETTINGS, **options).steps)
    assert written == {"always": list(range(1, steps)), "asked": [2]}
    assert not callbacks.CHECKPOINT_NOW.exists()


def test_a_full_disk_costs_a_checkpoint_but_neither_the_older_one_nor_the_training(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save = Trainer.save_model

    def until_full(self: Trainer, *arguments: Any, **options: Any) -> None:
        save(self, *arguments, **options)
        if self.state.global_step > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    models = [_lora(tiny_model) for _ in range(2)]
    whole = train(models[0], _rows(), **SETTINGS, checkpoints=tmp_path / "whole")
    monkeypatch.setattr(Trainer, "save_model", until_full)
    options: dict[str, Any] = {"checkpoints": tmp_path / "full", "checkpoint_minutes": 0.0}
    assert train(models[1], _rows(), **SETTINGS, **options) == whole
    assert [folder.name for folder in (tmp_path / "full").iterdir()] == ["checkpoint-2"]
    assert "step 3: no checkpoint was written, training goes on" in caplog.text
    assert _equal(_trainable(models[1]), _trainable(models[0]))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("adapter_model.safetensors", lambda file: os.truncate(file, file.stat().st_size // 2)),
        ("optimizer.pt", lambda file: os.truncate(file, 0)),
        ("rng_state.pth", Path.unlink),
    ],
)
def test_a_broken_checkpoint_is_left_out_with_a_warning_and_the_result_is_the_same(
    file: str, damage: Any, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Told(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    models = [_lora(tiny_model) for _ in range(3)]
    whole = train(models[0], _rows(), **SETTINGS, checkpoints=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(models[1], _rows(), **SETTINGS, checkpoints=tmp_path / "cut", callbacks=[Told()])
    damage(tmp_path / "cut" / "checkpoint-3" / file)
    assert train(models[2], _rows(), **SETTINGS, checkpoints=tmp_path / "cut") == whole
    assert "checkpoint-3 is not whole" in caplog.text
    assert _equal(_trainable(models[2]), _trainable(models[0]))


def test_a_step_smaller_than_a_row_is_refused() -> None:
    params = TrainingParams(**PARAMS)
    assert params.rows_per_step == 2
    with pytest.raises(UserError, match=r"batch_tokens is 500.*at least max_sequence_tokens, 512"):
        _ = params.model_copy(update={"batch_tokens": 500}).rows_per_step


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
        labels = [
            label for row in rows[start : start + 4] for label in row["labels"] if label != IGNORED
        ]
        assert labels.count(99) / len(labels) == pytest.approx(0.2, abs=0.05)


def test_checkpoint_folders_belong_to_settings_rows_and_base_and_go_with_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_and_name_folder(*_: Any, checkpoints: Path, **__: Any) -> Path:
        checkpoints.mkdir(parents=True, exist_ok=True)
        return checkpoints

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "train", train_and_name_folder)
    base = tmp_path / "base"
    base.mkdir()
    params = TrainingParams(**PARAMS)

    def interrupted(settings: TrainingParams, used: list[Row], weights: str) -> Any:
        (base / "weights").write_text(weights)
        seen: list[Any] = []
        with (
            contextlib.suppress(KeyboardInterrupt),
            trained("sft", settings, base, None, used) as folder,
        ):
            seen.append(folder)
            raise KeyboardInterrupt
        return seen[0]

    rows = _rows(4)
    first = interrupted(params, rows, "1")
    others = [interrupted(params.model_copy(update={"seed": 2}), rows, "1")]
    others += [interrupted(params, rows[1:], "1"), interrupted(params, rows, "2")]
    assert interrupted(params, rows, "1") == first
    assert len({first, *others}) == 4
    assert all(folder.is_dir() for folder in (first, *others))
    with trained("sft", params, base, None, rows) as folder:
        assert folder == first
    assert not any(folder.exists() for folder in (first, *others))


def test_the_curve_is_a_table_with_a_line_per_step(tmp_path: Path) -> None:
    step = {
        "step": 1,
        "learning_rate": 1e-4,
        "gradient_norm": 0.5,
        "loss": 2.25,
        "domain": 2.5,
        "replay": 1.5,
    }
    evaluated = [{"step": 0, "heldout_domain": 1.25, "heldout_general": 1.0}]
    outcome = Outcome(10, 9, 8, [step, {**step, "step": 2, "loss": 1.75}], evaluated, 2)
    outcome.write_curve(tmp_path / "curve")
    assert (tmp_path / "curve" / "loss.tsv").read_text().splitlines() == [
        "step\tlearning_rate\tgradient_norm\tloss\tdomain\treplay",
        "1\t0.0001\t0.5\t2.25\t2.5\t1.5",
        "2\t0.0001\t0.5\t1.75\t2.5\t1.5",
    ]
    assert (tmp_path / "curve" / "heldout.tsv").read_text().splitlines() == [
        "step\theldout_domain\theldout_general",
        "0\t1.25\t1",
    ]
    assert outcome.metrics()["loss_first"] == 2.25
    assert outcome.metrics()["loss_last"] == 1.75
    assert outcome.metrics()["heldout_bits_per_byte"] == evaluated


def test_the_loss_of_a_step_is_the_mean_of_its_sources_by_their_labelled_tokens(
    tiny_model: Path, tmp_path: Path
) -> None:
    examples = [
        replace(example, replayed=place % 3 == 0) for place, example in enumerate(_examples())
    ]
    rows = pack(examples, max_tokens=64, rows_per_step=2)
    steps = train(_lora(tiny_model), rows, **SETTINGS, checkpoints=tmp_path).steps
    for number, step in enumerate(steps):
        pairs = [
            pair
            for row in rows[2 * number : 2 * number + 2]
            for pair in zip(row["labels"], row["sources"], strict=True)
        ]
        tokens = [
            sum(label != IGNORED and source == one for label, source in pairs)
            for one in (DOMAIN, REPLAY)
        ]
        found = (tokens[0] * step.get("domain", 0) + tokens[1] * step.get("replay", 0)) / sum(
            tokens
        )
        assert step["loss"] == pytest.approx(found, rel=1e-5)
    assert any(step.get("replay", 0) != pytest.approx(step["domain"], rel=1e-3) for step in steps)


def test_a_gradient_norm_far_above_those_before_it_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    check, control = callbacks.GradientCheck(), TrainerControl()
    state = TrainerState()
    for step, norm in enumerate([1.0, 2.0] * 8 + [9.0, 30.0, 500.0], 1):
        state.global_step = step
        state.log_history.append({"loss": 1.0, "grad_norm": norm, "step": step})
        check.on_log(None, state, control, logs=state.log_history[-1])
    warned = [record.message for record in caplog.records]
    assert len(warned) == 1
    assert "step 18: the gradient norm is 30, 15 times that of the steps before it" in warned[0]


def test_several_rows_in_a_pass_give_the_loss_of_one_at_a_time(
    tiny_model: Path, tmp_path: Path
) -> None:
    models = [_lora_without_dropout(tiny_model) for _ in range(2)]
    rows = pack(_examples(), max_tokens=64, rows_per_step=4)
    settings = SETTINGS | {"rows_per_step": 4}
    outcomes = [
        train(model, rows, **settings, micro_batch_rows=size, checkpoints=tmp_path / str(size))
        for model, size in zip(models, (1, 4), strict=True)
    ]
    losses = [[step["loss"] for step in outcome.steps] for outcome in outcomes]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert outcomes[1].steps[0]["gradient_norm"] == pytest.approx(
        outcomes[0].steps[0]["gradient_norm"], rel=2e-2
    )


def test_a_micro_batch_that_does_not_divide_a_step_names_what_is_allowed(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"micro_batch_rows is 3; allowed with 2 rows a step: 1, 2"):
        train(_lora(tiny_model), _rows(), **SETTINGS, micro_batch_rows=3, checkpoints=tmp_path)


@pytest.mark.parametrize("wanted", [True, False, "auto"])
def test_activation_checkpointing_is_as_asked_and_changes_no_loss(
    wanted: Any, tiny_model: Path, tmp_path: Path
) -> None:
    seen: list[bool] = []

    class Look(TrainerCallback):
        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
        ) -> None:
            seen.append(model.is_gradient_checkpointing)

    settings = SETTINGS | {"checkpoints": tmp_path / "asked", "activation_checkpointing": wanted}
    outcome = train(_lora_without_dropout(tiny_model), _rows(), **settings, callbacks=[Look()])
    assert set(seen) == {wanted is True}
    plain = train(
        _lora_without_dropout(tiny_model), _rows(), **SETTINGS, checkpoints=tmp_path / "plain"
    )
    assert [step["loss"] for step in outcome.steps] == [step["loss"] for step in plain.steps]


def test_a_text_longer_than_the_model_takes_and_weights_that_are_not_finite_are_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = _lora(tiny_model)
    model.config.max_position_embeddings = 20
    with pytest.raises(
        UserError, match=r"an example has \d+ tokens, and the model takes at most 20"
    ):
        train(model, _rows(), **SETTINGS, checkpoints=tmp_path)
    model = load_bf16(tiny_model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"not finite: .*layers.1.mlp.up_proj.base_layer.weight"):
        train(add_lora(model, rank=2, alpha=4, seed=0), _rows(), **SETTINGS, checkpoints=tmp_path)


def _lora_without_dropout(base: Path) -> Any:
    return add_lora(load_bf16(base), rank=2, alpha=4, seed=0)
