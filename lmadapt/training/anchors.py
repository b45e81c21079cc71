"""Anchors against forgetting: terms of the loss that hold a model near its start.

An anchor holds either the predictions (KL to the base) or the trainable parameters (L2-SP, EWC,
SI). A LoRA adapter adds B A to the base; A starts random and B at zero, so an anchor at the start
of the adapter holds the model at its base.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import TrainerCallback

from lmadapt.core.errors import UserError
from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.training.adapters import trainable_parameters
from lmadapt.training.labelled_head import LabelledCrossEntropy, labelled_head
from lmadapt.training.packing import DOMAIN, REPLAY
from lmadapt.training.params import AnchorParams, KlTokens

Penalty = Callable[[Mapping[str, torch.Tensor], torch.Tensor], torch.Tensor]
"""A term of the loss. It is called for each micro-batch, and its values add up over a step.

First argument: the tensors of the micro-batch, those of a PackedRow as [B, L], and `hidden`
[B, L, H], which enters the head. Second argument: the labelled tokens of the whole step.
"""

SOURCES = {"replay": [REPLAY], "domain": [DOMAIN], "all": [DOMAIN, REPLAY]}
KL_CHUNK_ELEMENTS = 2**24  # logits at once; each of several fp32 copies takes 64 MiB
FISHER_CHUNK_TOKENS = 32  # logits of so many tokens at once
SI_DAMPING = 1e-3  # xi of Zenke et al. 2017
SCALED_LOGITS = (
    "this model scales or caps its logits, which this anchor does not support; set it to 0"
)


def general_sample(
    params: AnchorParams, general: Sequence[Sequence[Encoded]], seed: int
) -> list[Encoded]:
    """Draw `fisher_examples` general examples; none where EWC and SI are off.

    Raises UserError where they are on and `general` holds no example.
    """
    if not (params.ewc_weight or params.si_weight):
        return []
    examples = list(chain.from_iterable(general))
    if not examples:
        raise UserError(
            "ewc_weight and si_weight need general data for their estimate, and there is none: "
            "set them to 0"
        )
    order = np.random.default_rng(seed).permutation(len(examples))
    return [examples[index] for index in order[: params.fisher_examples].tolist()]


def penalties(
    params: AnchorParams, model: Any, sample: Sequence[Encoded], seed: int
) -> list[Penalty]:
    """The KL, L2-SP and EWC anchors that are on, at the present parameters of `model`."""
    anchors: list[Penalty] = []
    if params.kl_weight:
        anchors.append(KlToBase(model, params.kl_weight, params.kl_tokens))
    if params.l2_sp_weight:
        anchors.append(Quadratic(model, params.l2_sp_weight))
    if params.ewc_weight:
        fisher = diagonal_fisher(model, sample, seed=seed)
        anchors.append(Quadratic(model, params.ewc_weight, fisher))
    return anchors


class KlDivergence(torch.autograd.Function):
    """Sum over positions of KL(base || model) in nats, over the logits of a chunk at a time.

    hidden, base: [N, H], what enters the head of either; weight: [V, H], the frozen head of both.
    Sums and exponentials are in fp32. The gradient of the logits is p - p_base; as in
    `LabelledCrossEntropy`, the forward pass forms that of `hidden`.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, base: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """The summed divergence, a scalar in fp32."""
        total, gradient = torch.zeros((), device=hidden.device), torch.empty_like(hidden)
        rows = max(1, KL_CHUNK_ELEMENTS // weight.shape[0])
        for start in range(0, hidden.shape[0], rows):
            chunk = slice(start, start + rows)
            model_log = torch.log_softmax((hidden[chunk] @ weight.t()).float(), -1)
            base_log = torch.log_softmax((base[chunk] @ weight.t()).float(), -1)
            probability = base_log.exp()
            total += (base_log.sub_(model_log) * probability).sum()
            gradient[chunk] = model_log.exp_().sub_(probability).to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale the gradient that the forward pass formed."""
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[0]).to(gradient.dtype), None, None


class KlToBase:
    """`weight` times KL(base || model) of the next token, at labelled positions of one source.

    The base is the model with its adapter switched off, so no second model is in memory. Each
    token's divergence is added to its cross-entropy: the term is the sum over the chosen tokens,
    divided by all labelled tokens of the step. It is distillation from the model's earlier self
    (Li & Hoiem 2016, Learning without Forgetting, at temperature 1). Raises UserError for a model
    without an adapter, and for one whose logits are not `hidden @ weight.T`.
    """

    def __init__(self, model: Any, weight: float, tokens: KlTokens) -> None:
        if not isinstance(model, PeftModel):
            raise UserError(
                f"kl_weight is {weight}, but there is no adapter to switch off: with method: full "
                "use l2_sp_weight or ewc_weight, or set method: lora"
            )
        self.model = model
        self.weight = weight
        self.sources = torch.tensor(SOURCES[tokens], device=model.device)

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], step_tokens: torch.Tensor
    ) -> torch.Tensor:
        """The term for one micro-batch."""
        if "hidden" not in inputs:
            raise UserError(f"kl_weight: {SCALED_LOGITS}")
        labelled = inputs["labels"][:, 1:] != IGNORED
        chosen = labelled & torch.isin(inputs["sources"][:, 1:], self.sources)
        if not chosen.any():
            return torch.zeros((), device=chosen.device)
        weight = self.model.get_base_model().get_output_embeddings().weight
        hidden = inputs["hidden"][:, :-1][chosen].to(weight.dtype)
        base = self._base_hidden(inputs)[:, :-1][chosen].to(weight.dtype)
        total: torch.Tensor = KlDivergence.apply(hidden, base, weight)
        return self.weight * total / step_tokens

    @torch.no_grad()
    def _base_hidden(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        kind = inputs["input_ids"].device.type
        with self.model.disable_adapter(), torch.autocast(kind, torch.bfloat16):
            output = self.model.get_base_model().base_model(
                input_ids=inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False
            )
        return torch.as_tensor(output.last_hidden_state)


class Quadratic:
    """weight / 2 * sum_i importance_i (theta_i - theta*_i)^2, over the trainable parameters.

    theta* are the parameters at construction. Without `importance` (1 everywhere) this is L2-SP
    (Li, Grandvalet & Davoine 2018); with a diagonal Fisher information it is elastic weight
    consolidation (Kirkpatrick et al. 2017, equation 3); with that of `PathIntegral` it is SI.
    """

    def __init__(
        self, model: Any, weight: float, importance: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        self.weight = weight
        self.terms = [
            (tensor, tensor.detach().clone(), importance[name] if importance else 1.0)
            for name, tensor in trainable_parameters(model)
        ]

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], step_tokens: torch.Tensor
    ) -> torch.Tensor:
        """The micro-batch's share of the term: its share of the step's labelled tokens."""
        share = (inputs["labels"] != IGNORED).sum() / step_tokens
        distances = [
            ((tensor - start).square() * importance).sum()
            for tensor, start, importance in self.terms
        ]
        return self.weight / 2 * share * torch.stack(distances).sum()


class PathIntegral(TrainerCallback):
    """Synaptic intelligence (Zenke, Poole & Ganguli 2017): how much each parameter cut the loss.

    importance_i = max(0, -sum_t g_i(t) dtheta_i(t)) / (Dtheta_i^2 + SI_DAMPING), where g are the
    gradients as the optimiser sees them (clipped), dtheta its steps and Dtheta their sum.
    """

    def __init__(self, model: Any) -> None:
        self.terms = [
            (name, tensor, tensor.detach().clone()) for name, tensor in trainable_parameters(model)
        ]
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
        """Importance of each parameter, by its name."""
        return {
            name: self.work[name].clamp(min=0) / ((tensor.detach() - start).square() + SI_DAMPING)
            for name, tensor, start in self.terms
        }


def diagonal_fisher(
    model: Any, examples: Iterable[Encoded], *, seed: int
) -> dict[str, torch.Tensor]:
    """Diagonal Fisher information of each trainable parameter per labelled token, by its name.

    The mean over `examples` of (d log p(y | x) / d theta_i)^2, where y is drawn from the model's
    own predictions, as the definition asks (Kunstner et al. 2019: with the labels of the data it
    would be another quantity, the "empirical" Fisher). At the start of an adapter A has none, as B
    is zero. Raises UserError for a model that scales or caps its logits.
    """
    language_model = model.get_base_model() if isinstance(model, PeftModel) else model
    head = language_model.get_output_embeddings().weight
    generator = torch.Generator(head.device).manual_seed(seed)
    fisher = {name: torch.zeros_like(tensor) for name, tensor in trainable_parameters(model)}
    tokens = 0
    model.eval()
    for example in examples:
        model.zero_grad()
        hidden = _labelled_hidden(language_model, example, head.device)
        drawn = _draw_targets(hidden.detach(), head, generator)
        LabelledCrossEntropy.apply(hidden, head, drawn)[0].backward()
        for name, tensor in trainable_parameters(model):
            if tensor.grad is not None:
                fisher[name] += tensor.grad.square()
        tokens += len(hidden)
    model.zero_grad()
    return {name: total / tokens for name, total in fisher.items()}


def _labelled_hidden(language_model: Any, example: Encoded, device: torch.device) -> torch.Tensor:
    """What enters the head at the N labelled positions of the example: [N, H] bf16."""
    ids, labels = torch.tensor([example.input_ids, example.labels], device=device)
    with labelled_head(language_model, ids[:8]) as exact:
        if not exact:
            raise UserError(f"ewc_weight: {SCALED_LOGITS}")
        with torch.autocast(device.type, torch.bfloat16):
            output = language_model.base_model(input_ids=ids[None], use_cache=False)
    hidden = output.last_hidden_state[0, :-1]
    return torch.as_tensor(hidden[labels[1:] != IGNORED]).to(torch.bfloat16)


def _draw_targets(
    hidden: torch.Tensor, head: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """A token for each of the N rows of `hidden` [N, H], drawn from the model's prediction: [N]."""
    drawn = []
    for part in hidden.split(FISHER_CHUNK_TOKENS):
        logits = part @ head.to(torch.bfloat16).t()
        drawn.append(torch.multinomial(logits.float().softmax(-1), 1, generator=generator)[:, 0])
    return torch.cat(drawn)
