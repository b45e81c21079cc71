"""Cross-entropy of a language model at labelled positions only, never with all logits in memory.

Instruction rows carry loss at few positions, and with a vocabulary of 100,000 tokens and more the
head is most of a small model's work. So unlabelled positions are left out before the
multiplication, the others go through in chunks, and the gradient is formed while the logits of a
chunk are in memory: two multiplications instead of three.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers.modeling_outputs import CausalLMOutput

from lmadapt.models.chat import IGNORED

CHUNK_ELEMENTS = {"cpu": 2**24, "cuda": 2**26}
"""Logits in memory at once; on a CPU 64 rows of 262,144 are as fast as 256 (measured)."""


class LabelledCrossEntropy(torch.autograd.Function):
    """Negative log-likelihoods in nats.

    hidden: [N, H], labelled positions only; weight: [V, H]; targets: [N] int64. It multiplies in
    the type of `hidden`; sums and exponentials are in fp32. `hidden` gets a gradient, and so does
    `weight` where it requires one (accumulated over the chunks in fp32).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The summed loss, a scalar in fp32, and the loss of each target, [N], without gradient."""
        head = weight.to(hidden.dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        each = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = (
            torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        )
        elements = CHUNK_ELEMENTS["cpu" if hidden.device.type == "cpu" else "cuda"]
        # A power of two where all fit, so that `_workspace` is used again for similar counts.
        rows = min(max(1, elements // weight.shape[0]), 1 << (hidden.shape[0] - 1).bit_length())
        products, room = _workspace(rows, weight.shape[0], hidden.dtype, hidden.device)
        for start in range(0, hidden.shape[0], rows):
            chunk, target = hidden[start : start + rows], targets[start : start + rows, None]
            logits, scores = products[: len(chunk)], room[: len(chunk)]
            scores.copy_(torch.matmul(chunk, head.t(), out=logits))
            highest = scores.amax(1, keepdim=True)
            picked = scores.gather(1, target)
            normaliser = scores.sub_(highest).exp_().sum(1, keepdim=True)
            losses = normaliser.log() + highest - picked
            each[start : start + rows] = losses[:, 0]
            total += losses.sum()
            # Softmax less the one-hot target, times the normaliser, in fp32 before any rounding.
            scores.scatter_add_(1, target, -normaliser)
            error = logits.copy_(scores)
            hidden_gradient[start : start + rows] = (
                (error @ head).float().div_(normaliser).to(hidden.dtype)
            )
            if weight_gradient is not None:
                weight_gradient += (
                    error.t() @ (chunk.float() / normaliser).to(hidden.dtype)
                ).float()
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.weight_type = weight.dtype
        ctx.mark_non_differentiable(each)
        return total, each

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale the gradients that the forward pass formed."""
        hidden_gradient, weight_gradient = ctx.saved_tensors
        if weight_gradient is not None:
            weight_gradient = (weight_gradient * upstream[0]).to(ctx.weight_type)
        return (hidden_gradient * upstream[0]).to(hidden_gradient.dtype), weight_gradient, None


@functools.lru_cache(maxsize=2)
def _workspace(
    rows: int, vocabulary: int, kind: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory for a chunk of logits, as multiplied and in fp32: [rows, vocabulary] each.

    It is kept between steps, because fresh memory of this size costs a CPU page faults.
    """
    return (
        torch.empty(rows, vocabulary, dtype=kind, device=device),
        torch.empty(rows, vocabulary, dtype=torch.float32, device=device),
    )


@dataclass
class LabelledOutput(CausalLMOutput):
    """transformers' output, with the loss of each labelled token in the order of the labels."""

    token_losses: torch.Tensor | None = None  # [N] nats, without gradient


def labelled_loss(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss in nats of predicting each label from the position before it.

    Returns the sum, and the losses of the N labelled tokens, [N], without gradient.
    hidden: [B, L, H]; weight: [V, H]; labels: [B, L] int64 with IGNORED where there is no loss.
    Under autocast it multiplies in autocast's type, as a linear layer does.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    targets = labels[:, 1:]
    labelled = targets != IGNORED
    total, each = LabelledCrossEntropy.apply(hidden[:, :-1][labelled], weight, targets[labelled])
    return total, each


@contextmanager
def labelled_head(model: Any, sample: torch.Tensor) -> Iterator[bool]:
    """Let `model(labels=...)` compute its loss by `labelled_loss` within the block.

    Its output then has no logits, only what enters the head. model: a causal language model, not
    wrapped by PEFT; sample: [L] token ids. Yields whether the model does so: it keeps its own loss
    where its logits on the sample are not `hidden @ weight.T` (softcapped, scaled or biased), or
    where its loss has more terms (load balancing of experts). The patch is on `forward`, so
    wrappers of the model (PEFT, data parallelism) stay in place.
    """
    more_terms = getattr(model.config, "output_router_logits", False)
    exact = not more_terms and _logits_are_product(model, sample)
    with own_forward(model):
        if exact:
            model.forward = _forward_with_loss(model, model.forward)
        yield exact


@contextmanager
def own_forward(model: Any) -> Iterator[None]:
    """Restore `model.forward` after the block, which (or accelerate) may have replaced it."""
    forward = model.__dict__.get("forward")
    try:
        yield
    finally:
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            model.__dict__.pop(name, None)
        if forward is not None:
            model.forward = forward


def _forward_with_loss(model: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def forward(
        *inputs: Any, labels: Any = None, num_items_in_batch: Any = None, **options: Any
    ) -> Any:
        if labels is None:
            return original(*inputs, **options)
        # With a cache, transformers would not separate the examples packed into a row.
        hidden = model.base_model(*inputs, **{**options, "use_cache": False}).last_hidden_state
        items = num_items_in_batch
        if items is None:
            items = (labels[:, 1:] != IGNORED).sum()
        head = model.get_output_embeddings()
        if isinstance(head, FSDPModule):
            head.unshard()  # as its own forward would, which is not called here
        total, each = labelled_loss(hidden, head.weight, labels)
        return LabelledOutput(loss=total / items, hidden_states=(hidden,), token_losses=each)

    return forward


@torch.no_grad()
def _logits_are_product(model: Any, sample: torch.Tensor) -> bool:
    output = model(input_ids=sample[None], output_hidden_states=True, use_cache=False)
    hidden = output.hidden_states[-1]
    product = hidden @ model.get_output_embeddings().weight.t().to(hidden.dtype)
    return bool(torch.allclose(output.logits.float(), product.float(), rtol=1e-2, atol=1e-2))
