"""Anchors against forgetting: terms of the loss that hold a model near what it was before this training.

Either in what it predicts (KL to the base) or in its trainable parameters (L2-SP, EWC). Of a LoRA adapter those are A,
drawn at random, and B, zero: an anchor at its start holds the model at its base, as B A is what the adapter adds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftModel
from pydantic import Field
from transformers import TrainerCallback

from lmadapt.core.errors import UserError
from lmadapt.core.sections import Section
from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.training.labelled_head import LabelledCrossEntropy, labelled_head
from lmadapt.training.packing import DOMAIN, REPLAY

Penalty = Callable[[Mapping[str, torch.Tensor], torch.Tensor], torch.Tensor]
"""A term of the loss, called for each micro-batch with its tensors (a Row's lists as [B, L], and `hidden` [B, L, H],
what enters the head) and the labelled tokens of the whole step; summed over the step's micro-batches."""

KlTokens = Literal["replay", "domain", "all"]
SOURCES = {"replay": [REPLAY], "domain": [DOMAIN], "all": [DOMAIN, REPLAY]}
KL_CHUNK_ELEMENTS = 2**24  # logits of two models, and the work on them, in fp32: 64 MiB each
DAMPING = 1e-3  # of SI, Zenke et al. 2017
SCALED = "this model scales or caps its logits, which this anchor does not support; set it to 0"


class AnchorParams(Section):
    """How strongly each anchor holds; 0 is off."""

    kl_weight: float = Field(ge=0)
    kl_tokens: KlTokens
    l2_sp_weight: float = Field(ge=0)
    ewc_weight: float = Field(ge=0)
    si_weight: float = Field(ge=0)
    fisher_examples: int = Field(ge=1)
    frozen_layers: int = Field(ge=0)

    def general_sample(self, general: Sequence[Sequence[Encoded]], seed: int) -> list[Encoded]:
        """`fisher_examples` of the general examples; none where EWC and SI are off. UserError when none are there."""
        if not (self.ewc_weight or self.si_weight):
            return []
        examples = [example for document in general for example in document]
        if not examples:
            raise UserError(
                "ewc_weight and si_weight estimate from general data, and there is none: set them to 0"
            )
        order = np.random.default_rng(seed).permutation(len(examples))
        return [examples[index] for index in order[: self.fisher_examples].tolist()]

    def penalties(self, model: Any, sample: Sequence[Encoded], seed: int) -> list[Penalty]:
        """The anchors that are on, at the present parameters of `model`."""
        anchors: list[Penalty] = (
            [KlToBase(model, self.kl_weight, self.kl_tokens)] if self.kl_weight else []
        )
        if self.l2_sp_weight:
            anchors.append(Quadratic(model, self.l2_sp_weight))
        if self.ewc_weight:
            anchors.append(
                Quadratic(model, self.ewc_weight, diagonal_fisher(model, sample, seed=seed))
            )
        return anchors


class KlDivergence(torch.autograd.Function):
    """Sum over positions of KL(base || model), in nats; sums and exponentials in fp32, of a chunk's logits at a time.

    hidden, base: [N, H], what enters the head in either; weight: [V, H], the head of both, frozen. The gradient of the
    logits is p - p_base; that of `hidden` is formed in the forward pass, as in `LabelledCrossEntropy`.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, base: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """The summed divergence, a scalar in fp32."""
        total, gradient = torch.zeros((), device=hidden.device), torch.empty_like(hidden)
        rows = max(1, KL_CHUNK_ELEMENTS // weight.shape[0])
        for start in range(0, hidden.shape[0], rows):
            here = slice(start, start + rows)
            model, anchor = (
                torch.log_softmax((side[here] @ weight.t()).float(), -1) for side in (hidden, base)
            )
            probability = anchor.exp()
            total += (anchor.sub_(model) * probability).sum()
            gradient[here] = model.exp_().sub_(probability).to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale the gradient formed in the forward pass."""
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[0]).to(gradient.dtype), None, None


class KlToBase:
    """`weight` times KL(base || model) of the next token, at labelled positions of the chosen source.

    The base is the model with its adapter switched off: no second model is held. It is added for each token beside its
    cross-entropy, so the term is a sum over the chosen tokens divided by all labelled tokens of the step. This is
    distillation from the model's earlier self (Li & Hoiem 2016, Learning without Forgetting, at temperature 1).
    Raises UserError for a model without an adapter, and for one whose logits are not `hidden @ weight.T`.
    """

    def __init__(self, model: Any, weight: float, tokens: KlTokens) -> None:
        if not isinstance(model, PeftModel):
            raise UserError(
                f"kl_weight is {weight}, but there is no adapter to switch off: with method: full use l2_sp_weight or "
                "ewc_weight, or set method: lora"
            )
        self.model, self.weight, self.sources = (
            model,
            weight,
            torch.tensor(SOURCES[tokens], device=model.device),
        )

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], step_tokens: torch.Tensor
    ) -> torch.Tensor:
        """The term for one micro-batch."""
        if "hidden" not in inputs:
            raise UserError(f"kl_weight: {SCALED}")
        chosen = (inputs["labels"][:, 1:] != IGNORED) & torch.isin(
            inputs["sources"][:, 1:], self.sources
        )
        if not chosen.any():
            return torch.zeros((), device=chosen.device)
        language_model = self.model.get_base_model()
        with (
            torch.no_grad(),
            self.model.disable_adapter(),
            torch.autocast(chosen.device.type, torch.bfloat16),
        ):
            base = language_model.base_model(
                input_ids=inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False
            ).last_hidden_state
        weight = language_model.get_output_embeddings().weight
        sides = (hidden[:, :-1][chosen].to(weight.dtype) for hidden in (inputs["hidden"], base))
        total: torch.Tensor = KlDivergence.apply(*sides, weight)
        return self.weight * total / step_tokens


class Quadratic:
    """weight / 2 * sum_i importance_i (theta_i - theta*_i)^2 over the trainable parameters; theta* is where they stand.

    Without `importance` (1 everywhere) it is L2-SP (Li, Grandvalet & Davoine 2018); with a diagonal Fisher information
    it is elastic weight consolidation (Kirkpatrick et al. 2017, equation 3); with that of `PathIntegral`, SI.
    """

    def __init__(
        self, model: Any, weight: float, importance: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        self.weight = weight
        self.terms = [
            (tensor, tensor.detach().clone(), importance[name] if importance else 1.0)
            for name, tensor in trainable(model)
        ]

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], step_tokens: torch.Tensor
    ) -> torch.Tensor:
        """The micro-batch's part of the term: its part of the step's labelled tokens."""
        part = (inputs["labels"] != IGNORED).sum() / step_tokens
        terms = [
            ((tensor - start).square() * importance).sum()
            for tensor, start, importance in self.terms
        ]
        return self.weight / 2 * part * torch.stack(terms).sum()


class PathIntegral(TrainerCallback):
    """Synaptic intelligence (Zenke, Poole & Ganguli 2017): how much each parameter did for the loss in a training.

    importance_i = max(0, -sum_t g_i(t) dtheta_i(t)) / (Dtheta_i^2 + DAMPING), with g the gradients as the optimiser
    sees them (clipped), dtheta its steps and Dtheta the whole way.
    """

    def __init__(self, model: Any) -> None:
        self.terms = [(name, tensor, tensor.detach().clone()) for name, tensor in trainable(model)]
        self.work = {name: torch.zeros_like(tensor) for name, tensor, _ in self.terms}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Keep the parameters before the step."""
        self.before = [tensor.detach().clone() for _, tensor, _ in self.terms]

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Add what the step did."""
        for (name, tensor, _), before in zip(self.terms, self.before, strict=True):
            if tensor.grad is not None:
                self.work[name] -= tensor.grad * (tensor.detach() - before)

    def importance(self) -> dict[str, torch.Tensor]:
        """Of each parameter, by name."""
        ways = {name: (tensor.detach() - start).square() for name, tensor, start in self.terms}
        return {
            name: work.clamp(min=0) / (ways[name] + DAMPING) for name, work in self.work.items()
        }


def diagonal_fisher(
    model: Any, examples: Iterable[Encoded], *, seed: int
) -> dict[str, torch.Tensor]:
    """The diagonal of the Fisher information of each trainable parameter, per labelled token, estimated on `examples`.

    The mean of (d log p(y | x) / d theta_i)^2, where y is drawn from the model's own predictions, as the definition
    asks (Kunstner et al. 2019: with the labels of the data, the "empirical" Fisher, it would be another quantity). Of
    an adapter at its start, A has none, since B is zero. Raises UserError for a model that scales or caps its logits.
    """
    language_model = model.get_base_model() if isinstance(model, PeftModel) else model
    head = language_model.get_output_embeddings().weight
    generator = torch.Generator(head.device).manual_seed(seed)
    fisher = {name: torch.zeros_like(tensor) for name, tensor in trainable(model)}
    tokens = 0
    model.eval()
    for example in examples:
        model.zero_grad()
        ids, labels = torch.tensor([example.input_ids, example.labels], device=head.device)
        with (
            labelled_head(language_model, ids[:8]) as exact,
            torch.autocast(head.device.type, torch.bfloat16),
        ):
            if not exact:
                raise UserError(f"ewc_weight: {SCALED}")
            hidden = language_model.base_model(
                input_ids=ids[None], use_cache=False
            ).last_hidden_state[0, :-1]
        hidden = hidden[labels[1:] != IGNORED].to(torch.bfloat16)
        parts = (part @ head.to(torch.bfloat16).t() for part in hidden.detach().split(32))
        drawn = [
            torch.multinomial(part.float().softmax(-1), 1, generator=generator)[:, 0]
            for part in parts
        ]
        LabelledCrossEntropy.apply(hidden, head, torch.cat(drawn))[0].backward()
        for name, tensor in trainable(model):
            if tensor.grad is not None:
                fisher[name] += tensor.grad.square()
        tokens += len(hidden)
    model.zero_grad()
    return {name: total / tokens for name, total in fisher.items()}


def trainable(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Names and tensors of what training changes."""
    return [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
