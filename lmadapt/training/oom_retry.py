"""What one forward and backward pass takes: less where memory does not suffice, with the same loss and gradient."""

import logging
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import Trainer

from lmadapt.core.errors import UserError

Tensors = dict[str, torch.Tensor]

log = logging.getLogger(__name__)


def split(inputs: Mapping[str, torch.Tensor], max_tokens: int) -> list[Tensors]:
    """The tensors of packed rows, [B, L] each, in parts of at most `max_tokens`: of whole rows, else of whole examples.

    An example longer than that is a part of its own.
    """
    rows, length = inputs["position_ids"].shape
    if rows > 1:
        several = max(1, max_tokens // length)
        parts = [
            {name: tensor[i : i + several] for name, tensor in inputs.items()}
            for i in range(0, rows, several)
        ]
        return (
            parts
            if length <= max_tokens
            else [piece for part in parts for piece in split(part, max_tokens)]
        )
    (begins,) = (inputs["position_ids"][0] == 0).nonzero(as_tuple=True)
    ends = [*begins.tolist()[1:], inputs["position_ids"].shape[1]]
    cuts = [0]
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is None or following - cuts[-1] > max_tokens:
            cuts.append(end)
    return [
        {name: tensor[:, begin:end] for name, tensor in inputs.items()}
        for begin, end in pairwise(cuts)
    ]


class MicroBatches(Trainer):
    """A Trainer whose micro-batch, some packed rows, is halved where memory ends, as often as needed.

    Examples of a row do not see each other, and what each adds to the loss is divided by the labelled tokens of the
    whole step: so rows in parts have the loss and the gradient of the rows, and the effective batch stays. The step
    under way is begun anew, with the random numbers it began with.
    """

    max_pass_tokens: int | None = None
    step_under_way = -1

    def forget_partial_step(self) -> None:
        """Drop what a step that is begun anew has gathered besides gradients."""

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of one micro-batch, whose gradient is added; UserError where nothing is left to halve."""
        if self.step_under_way != self.state.global_step:
            self.step_under_way, self.begun = self.state.global_step, []
            self.random = torch.get_rng_state(), torch.cuda.get_rng_state_all()
        self.begun.append(inputs)
        waiting = [inputs]
        while True:
            try:
                return [self._passes(model, one, num_items_in_batch) for one in waiting][-1]
            except (RuntimeError, MemoryError) as error:
                if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                    raise
                self.max_pass_tokens = self._halved(
                    inputs, str(error), divisible=num_items_in_batch is not None
                )
            model.zero_grad()  # outside of `except`: the error held on to the tensors of the pass
            self.forget_partial_step()
            torch.set_rng_state(self.random[0])
            if torch.cuda.is_available():
                torch.cuda.set_rng_state_all(self.random[1])
                torch.cuda.empty_cache()
            waiting = self.begun

    def _passes(self, model: Any, inputs: Tensors, items: Any) -> torch.Tensor:
        parts = split(inputs, self.max_pass_tokens) if self.max_pass_tokens else [inputs]
        return torch.stack(
            [super(MicroBatches, self).training_step(model, part, items) for part in parts]
        ).sum()

    def _halved(self, inputs: Tensors, error: str, *, divisible: bool) -> int:
        limit = self.max_pass_tokens or inputs["position_ids"].numel()
        longest = max(part["position_ids"].numel() for part in split(inputs, limit))
        single = max(part["position_ids"].numel() for part in split(inputs, 1))
        step = self.state.global_step + 1
        if self.accelerator.num_processes > 1 or not divisible or longest == single:
            raise UserError(
                f"step {step}: not enough memory for {longest} tokens at once, which cannot be halved; lower "
                "max_sequence_tokens, then lora_rank, or train fewer modules (target_modules: retain); `lmadapt plan` "
                f"says what fits: {error}"
            )
        log.warning(
            "step %d: not enough memory for %d tokens at once: it is begun anew with at most %d, and so on; "
            "effective batch and loss stay as they are",
            step,
            longest,
            longest // 2,
        )
        return int(longest) // 2
