"""Stop a training whose loss is not finite or whose tensors get no gradient."""

import logging
import math
from statistics import median
from typing import Any

import torch
from transformers import TrainerCallback

from lmadapt.core.errors import UserError

log = logging.getLogger(__name__)

CHECKED_STEPS = 3
NORM_STEPS = 20  # so many steps before it are compared with a gradient norm
EXPLODING_FACTOR = 10.0  # a norm above this many times their median explodes


class GradientCheck(TrainerCallback):
    """Raise UserError where a loss is not finite or a trainable tensor gets no gradient.

    For example, bitsandbytes' layers on a CPU can pass no gradient to their inputs: no error shows,
    and the loss still falls.
    """

    def __init__(self) -> None:
        self.waiting: set[str] | None = None  # names of the tensors without a gradient so far
        self.steps = 0
        self.warned = False

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        """Look at every trainable tensor in the first CHECKED_STEPS steps of this run.

        LoRA's A may wait, as its gradient is zero while B is, which starts at zero. No other tensor
        may wait: from the second step on, gradients that pass through adapters alone would hide a
        layer that passes none.
        """
        if self.waiting is None:
            self.waiting = {
                name for name, tensor in model.named_parameters() if tensor.requires_grad
            }
        if not self.waiting or self.steps == CHECKED_STEPS:
            return
        self.steps += 1
        step = state.global_step + 1
        for name, tensor in model.named_parameters():
            if name in self.waiting and _has_gradient(name, tensor, step):
                self.waiting.remove(name)
        last = self.steps == CHECKED_STEPS
        missing = sorted(name for name in self.waiting if last or ".lora_A." not in name)
        if missing:
            raise UserError(
                f"no gradient reaches {len(missing)} trainable tensors in step {step}, such as "
                f"{', '.join(missing[:3])}: training would not change them; `lmadapt doctor` looks "
                "for the cause"
            )

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Stop at a loss or gradient norm that is not finite, before a checkpoint."""
        logs = logs or {}
        for key, name in (("loss", "loss"), ("grad_norm", "gradient norm")):
            value = logs.get(key, 0.0)
            if not math.isfinite(value):
                raise UserError(
                    f"step {state.global_step}: the {name} is {value}; a lower learning_rate or a "
                    "longer warmup_fraction usually helps"
                )
        if "loss" in logs and not self.warned:
            self._warn_of_a_jump(state)

    def _warn_of_a_jump(self, state: Any) -> None:
        recent = state.log_history[-2 * NORM_STEPS :]  # with evaluations between the steps
        norms = [entry["grad_norm"] for entry in recent if "grad_norm" in entry]
        if len(norms) <= NORM_STEPS // 2:
            return
        usual = median(norms[-NORM_STEPS - 1 : -1])
        if norms[-1] > EXPLODING_FACTOR * usual:
            self.warned = True
            log.warning(
                "step %d: the gradient norm is %.3g, %.0f times the median of the steps before it; "
                "if the loss does not come down again, lower learning_rate or look for broken "
                "texts in the data",
                state.global_step,
                norms[-1],
                norms[-1] / usual,
            )


def _has_gradient(name: str, tensor: torch.Tensor, step: int) -> bool:
    """Whether the tensor has a gradient that is not zero; UserError where it is not finite."""
    if tensor.grad is None:
        return False
    if not torch.isfinite(tensor.grad).all():
        raise UserError(
            f"step {step}: the gradient of {name} is not finite; try a lower learning_rate"
        )
    return bool(tensor.grad.any())
