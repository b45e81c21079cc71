import math
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState

from lmadapt.core.errors import UserError
from lmadapt.models.loading import load_nf4
from lmadapt.training.adapters import add_lora
from lmadapt.training.gradient_check import GradientCheck
from lmadapt.training.loop import train
from tests.training.small_training import SETTINGS, random_rows, with_adapter


def test_layers_that_pass_no_gradient_to_their_inputs_stop_training_in_its_first_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = load_nf4(tiny_model)
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            # As the repacked layers do:
            layer.register_forward_hook(lambda _, __, output: output.detach())
    with pytest.raises(
        UserError, match=r"no gradient reaches \d+ trainable tensors in step 1, such as .*lora_B"
    ):
        train(
            add_lora(model, rank=2, alpha=4, seed=0), random_rows(), SETTINGS, checkpoints=tmp_path
        )


def test_a_loss_that_is_not_finite_stops_training_and_the_error_names_the_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    class Poison(TrainerCallback):
        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
        ) -> None:
            if state.global_step == 4:
                next(iter(model.parameters())).data.fill_(math.nan)

    model = with_adapter(tiny_model, dropout=0.0)
    with pytest.raises(UserError, match=r"step 5: the loss is nan.*learning_rate"):
        train(model, random_rows(), SETTINGS, checkpoints=tmp_path, callbacks=[Poison()])


def test_one_warning_tells_of_a_gradient_norm_far_above_those_before_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    check, control = GradientCheck(), TrainerControl()
    state = TrainerState()
    for step, norm in enumerate([1.0, 2.0] * 8 + [9.0, 30.0, 500.0], 1):
        state.global_step = step
        state.log_history.append({"loss": 1.0, "grad_norm": norm, "step": step})
        check.on_log(None, state, control, logs=state.log_history[-1])
    warned = [record.message for record in caplog.records]
    assert len(warned) == 1
    assert (
        "step 18: the gradient norm is 30, 15 times the median of the steps before it" in warned[0]
    )
