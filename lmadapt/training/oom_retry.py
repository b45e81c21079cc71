"""A Trainer that halves what goes through the model at once where memory is short.

Loss and gradient of a step stay the same.
"""

import logging
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import Trainer

from lmadapt.core.errors import UserError

Tensors = dict[str, torch.Tensor]

log = logging.getLogger(__name__)


class OomRetryTrainer(Trainer):
    """A Trainer that halves a micro-batch of packed rows as often as memory demands.

    The examples of a row do not see each other, and each example's loss is divided by the labelled
    tokens of the whole step. So rows in parts have the loss and the gradient of whole rows, and the
    effective batch stays. The step under way starts again, with the random numbers it started with.
    """

    max_pass_tokens: int | None = None
    step_under_way = -1

    def forget_partial_step(self) -> None:
        """Drop what a step has gathered besides gradients, before the step starts again."""

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of one micro-batch, whose gradient is added up; UserError where no half fits."""
        if self.step_under_way != self.state.global_step:
            self.step_under_way = self.state.global_step
            self.inputs_of_step: list[Tensors] = []
            self.random = torch.get_rng_state(), torch.cuda.get_rng_state_all()
        self.inputs_of_step.append(inputs)
        waiting = [inputs]
        while True:
            try:
                losses = [self._pass_in_parts(model, one, num_items_in_batch) for one in waiting]
                return losses[-1]
            except (RuntimeError, MemoryError) as error:
                if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                    raise
                self.max_pass_tokens = self._half_of_a_pass(
                    inputs, str(error), divisible=num_items_in_batch is not None
                )
            # Outside `except`, as the error holds on to the tensors of the pass.
            model.zero_grad()
            self.forget_partial_step()
            self._restore_random_numbers()
            waiting = self.inputs_of_step

    def _pass_in_parts(self, model: Any, inputs: Tensors, items: Any) -> torch.Tensor:
        parts = split_rows(inputs, self.max_pass_tokens) if self.max_pass_tokens else [inputs]
        losses = [super(OomRetryTrainer, self).training_step(model, part, items) for part in parts]
        return torch.stack(losses).sum()

    def _restore_random_numbers(self) -> None:
        cpu, gpus = self.random
        torch.set_rng_state(cpu)
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(gpus)
            torch.cuda.empty_cache()

    def _half_of_a_pass(self, inputs: Tensors, error: str, *, divisible: bool) -> int:
        """Half the tokens of the largest pass so far; UserError where it cannot be halved."""
        limit = self.max_pass_tokens or inputs["position_ids"].numel()
        largest = _largest(split_rows(inputs, limit))
        longest_example = _largest(split_rows(inputs, 1))
        step = self.state.global_step + 1
        if self.accelerator.num_processes > 1 or not divisible or largest == longest_example:
            raise UserError(
                f"step {step}: not enough memory for {largest} tokens at once, which cannot be "
                "halved; lower max_sequence_tokens, then lora_rank, or train fewer modules "
                f"(target_modules: retain); `lmadapt plan` says what fits: {error}"
            )
        log.warning(
            "step %d: not enough memory for %d tokens at once; retrying with at most %d tokens a "
            "pass; batch and loss stay the same",
            step,
            largest,
            largest // 2,
        )
        return largest // 2


def split_rows(inputs: Mapping[str, torch.Tensor], max_tokens: int) -> list[Tensors]:
    """Tensors of packed rows, [B, L] each, in parts of at most `max_tokens` tokens.

    Parts are whole rows where a row fits, else whole examples. An example longer than `max_tokens`
    is a part of its own.
    """
    rows, length = inputs["position_ids"].shape
    if rows == 1:
        return _split_row(inputs, max_tokens)
    rows_at_once = max(1, max_tokens // length)
    parts: list[Tensors] = []
    for start in range(0, rows, rows_at_once):
        here = slice(start, start + rows_at_once)
        part = {name: tensor[here] for name, tensor in inputs.items()}
        parts += [part] if length <= max_tokens else _split_row(part, max_tokens)
    return parts


def _split_row(row: Mapping[str, torch.Tensor], max_tokens: int) -> list[Tensors]:
    positions = row["position_ids"][0]
    (starts,) = (positions == 0).nonzero(as_tuple=True)
    ends = [*starts.tolist()[1:], len(positions)]  # of each example
    cuts = [0]
    for end, next_end in pairwise([*ends, math.inf]):
        if next_end - cuts[-1] > max_tokens:
            cuts.append(int(end))
    parts = []
    for start, end in pairwise(cuts):
        parts.append({name: tensor[:, start:end] for name, tensor in row.items()})
    return parts


def _largest(parts: list[Tensors]) -> int:
    """Tokens of the largest part."""
    return max(int(part["position_ids"].numel()) for part in parts)
