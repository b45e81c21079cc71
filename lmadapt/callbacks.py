"""What watches a training: that gradients reach every tensor, how far it is, when a checkpoint is due."""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback

from lmadapt.errors import UserError
from lmadapt.packing import Row

GRADIENT_CHECK_STEPS = 3
CHECKPOINT_SECONDS = 300.0  # between two checkpoints; a run shorter than this writes none


class GradientCheck(TrainerCallback):
    """Stop a training that only looks like one: a loss that is not finite, a tensor that gets no gradient.

    bitsandbytes' CPU layers, for one, can pass no gradient to their inputs, with no error and a falling loss.
    """

    def __init__(self) -> None:
        self.waiting: set[str] | None = None
        self.steps = 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        """Look at every trainable tensor in the first steps of this run.

        LoRA's A may wait: its gradient is zero as long as B is, which starts at zero. All else may not: from the
        second step on, gradients that pass through the adapters alone would hide a layer that passes none.
        """
        if self.waiting is None:
            self.waiting = {name for name, tensor in model.named_parameters() if tensor.requires_grad}
        if not self.waiting or self.steps == GRADIENT_CHECK_STEPS:
            return
        self.steps += 1
        for name, tensor in model.named_parameters():
            if name in self.waiting and tensor.grad is not None:
                if not torch.isfinite(tensor.grad).all():
                    raise UserError(
                        f"step {state.global_step + 1}: the gradient of {name} is not finite; try a lower learning_rate"
                    )
                if tensor.grad.any():
                    self.waiting.remove(name)
        last = self.steps == GRADIENT_CHECK_STEPS
        missing = sorted(name for name in self.waiting if last or ".lora_A." not in name)
        if missing:
            raise UserError(
                f"no gradient reaches {len(missing)} trainable tensors in step {state.global_step + 1}, such as "
                f"{', '.join(missing[:3])}: they would stay as they are; `lmadapt doctor` looks for the cause"
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **others: Any) -> None:
        """Stop at the first loss or gradient norm that is not finite, before a checkpoint is written."""
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise UserError(
                    f"step {state.global_step}: the {name.replace('grad_', 'gradient ')} is {value}; a lower "
                    "learning_rate or a longer warmup_fraction usually cures it"
                )


class Progress(TrainerCallback):
    """A bar in tokens, with tokens per second and the time left; and the decision when to write a checkpoint."""

    def __init__(self, rows: Sequence[Row], rows_per_step: int) -> None:
        tokens = [len(row["input_ids"]) for row in rows]
        self.tokens = [sum(tokens[i : i + rows_per_step]) for i in range(0, len(tokens), rows_per_step)]

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the bar, at the checkpoint's place after a resume."""
        interval = 0.5 if sys.stderr.isatty() else 15.0
        done = sum(self.tokens[: state.global_step])
        self.bar = tqdm(total=sum(self.tokens), initial=done, unit="tokens", desc="training", mininterval=interval)
        self.saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Advance by the tokens of the step; ask for a checkpoint when the last is long ago."""
        self.bar.update(self.tokens[state.global_step - 1])
        if time.monotonic() - self.saved >= CHECKPOINT_SECONDS and state.global_step < state.max_steps:
            control.should_save = True
            self.saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **others: Any) -> None:
        """Show the loss of the step."""
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Leave the full bar standing."""
        self.bar.close()
