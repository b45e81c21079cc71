"""Cross-entropy of a language model at labelled positions only, without ever holding all logits.

Instruction rows carry loss on few of their positions, and with vocabularies of 100,000 and more the head is most of
a small model's work: unlabelled positions are left out before the multiplication, the rest goes through in chunks,
and the gradient is formed while a chunk's logits are at hand (two multiplications, where recomputing takes three).
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

CHUNK_ELEMENTS = {
    "cpu": 2**24,
    "cuda": 2**26,
}  # logits held at once; on a CPU 64 rows of 262,144 are as fast as 256


class LabelledCrossEntropy(torch.autograd.Function):
    """Negative log-likelihoods in nats; multiplies in the type of `hidden`, sums and exponentials in fp32.

    hidden: [N, H], labelled positions only; weight: [V, H]; targets: [N] int64. Gradients for hidden, and for
    weight where it requires one (accumulated in fp32 over the chunks).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The summed loss, a scalar in fp32, whose gradients are kept for `backward`; and that of each target, [N]."""
        head = weight.to(hidden.dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        each = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = (
            torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        )
        chunk = CHUNK_ELEMENTS["cpu" if hidden.device.type == "cpu" else "cuda"]
        rows = min(max(1, chunk // weight.shape[0]), 1 << (hidden.shape[0] - 1).bit_length())
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
            # Softmax less the one-hot target, times the normaliser: subtracted in fp32, before any rounding.
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
        """Scale the gradients formed in the forward pass."""
        hidden_gradient, weight_gradient = ctx.saved_tensors
        if weight_gradient is not None:
            weight_gradient = (weight_gradient * upstream[0]).to(ctx.weight_type)
        return (hidden_gradient * upstream[0]).to(hidden_gradient.dtype), weight_gradient, None


@functools.lru_cache(maxsize=2)
def _workspace(
    rows: int, vocabulary: int, kind: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for a chunk of logits as multiplied and in fp32, kept: fresh memory of this size costs a CPU page faults."""
    return (
        torch.empty(rows, vocabulary, dtype=kind, device=device),
        torch.empty(rows, vocabulary, dtype=torch.float32, device=device),
    )


@dataclass
class LabelledOutput(CausalLMOutput):
    """Also what each labelled token, in the order of its labels, lost: nats, without gradient."""

    token_losses: torch.Tensor | None = None


def labelled_loss(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss in nats of predicting each label from the position before it: summed, and of each without gradient.

    hidden: [B, L, H]; weight: [V, H]; labels: [B, L] int64 with IGNORED where there is no loss. Under autocast the
    multiplications are in its type, as those of a linear layer are.
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
    """Within the block, `model(labels=...)` computes its loss by `labelled_loss`; no logits, only what enters the head.

    model: a causal language model, not wrapped by PEFT; sample: [L] token ids. Yields whether it does: models whose
    logits on the sample are not `hidden @ weight.T` (softcapped, scaled or biased ones), or whose loss has more terms
    (load balancing of experts), keep their own loss. The patch is on `forward`, so wrappers of the model
    (PEFT, data parallelism) stay in place.
    """
    exact = not getattr(model.config, "output_router_logits", False) and _logits_are_product(
        model, sample
    )
    with own_forward(model):
        if exact:
            model.forward = _forward_with_loss(model, model.forward)
        yield exact


@contextmanager
def own_forward(model: Any) -> Iterator[None]:
    """Take off, after the block, what it (or accelerate, for mixed precision) put in the place of `model.forward`."""
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
        # With a cache, transformers would not look for the examples packed into a row.
        hidden = model.base_model(*inputs, **{**options, "use_cache": False}).last_hidden_state
        items = (
            (labels[:, 1:] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        )
        head = model.get_output_embeddings()
        if isinstance(head, FSDPModule):
            head.unshard()  # what its own forward, not called here, would do
        total, each = labelled_loss(hidden, head.weight, labels)
        return LabelledOutput(loss=total / items, hidden_states=(hidden,), token_losses=each)

    return forward


@torch.no_grad()
def _logits_are_product(model: Any, sample: torch.Tensor) -> bool:
    output = model(input_ids=sample[None], output_hidden_states=True, use_cache=False)
    product = output.hidden_states[-1] @ model.get_output_embeddings().weight.t().to(
        output.hidden_states[-1].dtype
    )
    return bool(torch.allclose(output.logits.float(), product.float(), rtol=1e-2, atol=1e-2))
