"""What watches a training: that gradients reach every tensor, how far it is, when a checkpoint is due."""

import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback

from lmadapt.core.errors import UserError
from lmadapt.training.packing import Row

log = logging.getLogger(__name__)

GRADIENT_CHECK_STEPS = 3
EXPLODING_FACTOR, NORM_STEPS = 10.0, 20  # a norm of so many times the median of the steps before it
CHECKPOINT_NOW = Path(
    ".lmadapt/checkpoint-now"
)  # a file that asks for one; removed when it is written


class GradientCheck(TrainerCallback):
    """Stop a training that only looks like one: a loss that is not finite, a tensor that gets no gradient.

    bitsandbytes' CPU layers, for one, can pass no gradient to their inputs, with no error and a falling loss.
    """

    def __init__(self) -> None:
        self.waiting: set[str] | None = None
        self.steps = 0
        self.warned = False

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        """Look at every trainable tensor in the first steps of this run.

        LoRA's A may wait: its gradient is zero as long as B is, which starts at zero. All else may not: from the
        second step on, gradients that pass through the adapters alone would hide a layer that passes none.
        """
        if self.waiting is None:
            self.waiting = {
                name for name, tensor in model.named_parameters() if tensor.requires_grad
            }
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

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Stop at the first loss or gradient norm that is not finite, before a checkpoint; warn where norms explode."""
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise UserError(
                    f"step {state.global_step}: the {name.replace('grad_', 'gradient ')} is {value}; a lower "
                    "learning_rate or a longer warmup_fraction usually cures it"
                )
        norms = [
            entry["grad_norm"]
            for entry in state.log_history[-2 * NORM_STEPS :]
            if "grad_norm" in entry
        ]
        usual = median(norms[-NORM_STEPS - 1 : -1]) if len(norms) > NORM_STEPS // 2 else math.inf
        if (
            norms
            and "loss" in (logs or {})
            and norms[-1] > EXPLODING_FACTOR * usual
            and not self.warned
        ):
            self.warned = True
            log.warning(
                "step %d: the gradient norm is %.3g, %.0f times that of the steps before it; if the loss does not come "
                "down again, lower learning_rate or look for broken texts in the data",
                state.global_step,
                norms[-1],
                norms[-1] / usual,
            )


def step_tokens(rows: Sequence[Row], rows_per_step: int) -> list[int]:
    """How many tokens each optimiser step takes."""
    tokens = [len(row["input_ids"]) for row in rows]
    return [sum(tokens[i : i + rows_per_step]) for i in range(0, len(tokens), rows_per_step)]


class Progress(TrainerCallback):
    """A bar in tokens, with tokens per second and the time left."""

    def __init__(self, rows: Sequence[Row], rows_per_step: int) -> None:
        self.tokens = step_tokens(rows, rows_per_step)

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the bar, at the checkpoint's place after a resume."""
        interval = 0.5 if sys.stderr.isatty() else 15.0
        done = sum(self.tokens[: state.global_step])
        self.bar = tqdm(
            total=sum(self.tokens),
            initial=done,
            unit="tokens",
            desc="training",
            mininterval=interval,
            disable=not state.is_world_process_zero,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Advance by the tokens of the step."""
        self.bar.update(self.tokens[state.global_step - 1])

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Show the loss of the step."""
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Leave the full bar standing."""
        self.bar.close()


class Checkpoints(TrainerCallback):
    """Have a checkpoint written every `minutes`, on request by the file CHECKPOINT_NOW, and when told to end.

    SIGTERM and SIGINT end the training after the step under way; `told` is then the signal's number.
    """

    def __init__(self, minutes: float) -> None:
        self.seconds, self.told = 60 * minutes, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the clock, and listen to signals (which Python allows in the main thread only)."""
        self.saved = time.monotonic()
        main = threading.current_thread() is threading.main_thread()
        self.before = (
            {one: signal.signal(one, self._tell) for one in (signal.SIGTERM, signal.SIGINT)}
            if main
            else {}
        )

    def _tell(self, number: int, frame: Any) -> None:
        self.told = number

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Decide; after the last step there is nothing left to lose."""
        due = CHECKPOINT_NOW.exists() or time.monotonic() - self.saved >= self.seconds
        if (
            torch.distributed.is_initialized()
        ):  # what one process is told, all do, after the same step
            said = torch.tensor([int(due), self.told], device=args.device)
            torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX)
            due, self.told = bool(said[0]), int(said[1])
        due = due or bool(self.told)
        if due and state.global_step < state.max_steps:
            control.should_save, control.should_training_stop = True, bool(self.told)
            CHECKPOINT_NOW.unlink(missing_ok=True)
            self.saved = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Listen no more."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
