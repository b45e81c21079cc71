"""Text that is never trained on, scored while training goes on: when to stop, and which weights to keep."""

import logging
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from accelerate.utils import broadcast_object_list
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_file
from lmadapt.core.sections import Section
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import texts_within

GROUPS = ("domain", "general")
SCORED_TOKENS = 4096  # at once; halved where memory does not suffice
OVERFITTING_EVALUATIONS = 2  # in a row that got worse while the loss got better

Evaluation = dict[str, float]
"""One evaluation: step, and bits per byte of `heldout_domain` and, where there is such text, `heldout_general`."""

log = logging.getLogger(__name__)


class HeldoutParams(Section):
    """How often held-out text is scored, and what follows from it."""

    heldout_every_steps: int = Field(ge=0)
    heldout_tokens: int = Field(ge=1)
    keep: Literal["last", "best"]
    patience: int | None = Field(ge=1)
    retention_budget_bits_per_byte: float | None = Field(ge=0)

    @model_validator(mode="after")
    def _scored_where_it_decides(self) -> "HeldoutParams":
        decides = (
            self.keep == "best" or self.patience or self.retention_budget_bits_per_byte is not None
        )
        if decides and not self.heldout_every_steps:
            raise ValueError(
                "keep: best, patience and retention_budget_bits_per_byte go by held-out text: heldout_every_steps "
                "must be at least 1"
            )
        return self

    def decide(self, evaluations: Sequence[Evaluation]) -> tuple[str, int | None]:
        """Why training ends at the last of these (empty: it does not), and whose step's weights are kept.

        None keeps those of the last step. Kept are, with `keep: best`, the weights with the fewest bits per byte of
        domain text among those evaluated inside the budget; with `last` they are the last evaluated inside it, once it
        is exceeded. The start itself is kept only where nothing later is inside.
        """
        budget, start = self.retention_budget_bits_per_byte, evaluations[0]
        limit = math.inf if budget is None else start["heldout_general"] + budget
        inside = [one for one in evaluations if one.get("heldout_general", -math.inf) <= limit]
        best = min(inside[1:] or inside, key=lambda one: one["heldout_domain"])
        if exceeded := len(inside) < len(evaluations):
            rise = evaluations[-1]["heldout_general"] - start["heldout_general"]
            reason = f"general text takes {rise:.4f} bits per byte more than at the start, the budget is {budget}"
        else:
            waited = sum(one["step"] > best["step"] for one in evaluations)
            patient = self.patience is None or waited < self.patience
            reason = (
                ""
                if patient
                else f"held-out domain text has not got better in {waited} evaluations"
            )
        kept = best["step"] if self.keep == "best" else inside[-1]["step"] if exceeded else None
        return reason, None if kept is None else int(kept)


class Heldout(TrainerCallback):
    """Score held-out text at the start, every `heldout_every_steps` steps and at the end; stop where it is time to.

    Scoring draws no random number and leaves the model's mode as it was: the training goes on as if it had not been.
    The evaluations stand in the trainer's history, and so in each checkpoint; all that is decided follows from them.
    """

    def __init__(
        self, params: HeldoutParams, documents: Iterable[dict[str, Any]], tokenizer: Any, seed: int
    ) -> None:
        """Choose up to `heldout_tokens` tokens of each group of the table HELDOUT; UserError where one is missing."""
        chosen = list(texts_within(documents, tokenizer, params.heldout_tokens, seed))
        self.params, self.stopped = params, ""
        self.windows = {
            name: [w for text, ws in chosen if text["group"] == name for w in ws] for name in GROUPS
        }
        self.bytes = {
            name: sum(len(t["text"].encode()) for t, _ in chosen if t["group"] == name)
            for name in GROUPS
        }
        needed = GROUPS if params.retention_budget_bits_per_byte is not None else GROUPS[:1]
        for name in needed:
            if not self.windows[name]:
                raise UserError(
                    f"no held-out {name} text of at most {params.heldout_tokens} tokens: raise heldout_tokens or "
                    "curate.heldout_fraction, or set heldout_every_steps to 0"
                )

    def bits_per_byte(self, model: Any) -> Evaluation:
        """Of each group that has text."""
        trained = model.training
        model.eval()
        found = {}
        with torch.autocast(model.device.type, torch.bfloat16):
            for name, windows in self.windows.items():
                if windows:
                    nats = -math.fsum(
                        values[0]
                        for values in score(lambda: model, windows, batch_tokens=SCORED_TOKENS)
                    )
                    found[f"heldout_{name}"] = nats / math.log(2) / self.bytes[name]
        model.train(trained)
        return found

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        """Score the start, unless it was before the training was interrupted."""
        if not evaluations(state.log_history):
            self._evaluate(args, state, model)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        logs: Any = None,
        **others: Any,
    ) -> None:
        """Score where a step is due; one after which training ends early needs no checkpoint any more."""
        due = (
            state.global_step % self.params.heldout_every_steps == 0
            or state.global_step == state.max_steps
        )
        if due and "loss" in logs:
            self.stopped = self._evaluate(args, state, model)
            if self.stopped:
                log.warning("step %d: training ends here: %s", state.global_step, self.stopped)
                control.should_training_stop, control.should_save = True, False

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Remove weights that no decision can return to, once the checkpoint that says so is whole."""
        folder, (_, kept) = (
            Path(args.output_dir),
            self.params.decide(evaluations(state.log_history)),
        )
        if state.is_world_process_zero and (folder / f"checkpoint-{state.global_step}").is_dir():
            inside = (
                [one["step"] for one in evaluations(state.log_history)][-1:]
                if self.params.keep == "last"
                else []
            )
            for file in folder.glob("kept-*.safetensors"):
                if int(file.stem[5:]) not in {kept, *inside}:
                    file.unlink()

    def restore(self, model: Any, state: Any, folder: Path) -> int:
        """Put the weights that are kept into `model`; returns their step."""
        _, kept = self.params.decide(evaluations(state.log_history))
        if kept is None or kept == state.global_step:
            return int(state.global_step)
        log.warning("kept are the weights after step %d of %d", kept, state.max_steps)
        if state.is_world_process_zero:  # which writes the model
            found = load_file(_file(folder, kept))
            with torch.no_grad():
                for name, tensor in _trainable(model):
                    tensor.copy_(found[name])
        return kept

    def _evaluate(self, args: Any, state: Any, model: Any) -> str:
        # Each process takes part: it may hold a part of the model.
        (found,) = broadcast_object_list([self.bits_per_byte(model)])
        state.log_history.append({"step": state.global_step, **found})
        done = evaluations(state.log_history)
        reason, kept = self.params.decide(done)
        budget = self.params.retention_budget_bits_per_byte is not None
        wanted = (budget and not reason) or kept == state.global_step > 0
        if state.is_world_process_zero and wanted:
            _keep(model, _file(Path(args.output_dir), state.global_step))
        if overfits(state.log_history):
            log.warning(
                "step %d: the loss falls, but held-out domain text has got worse %d times in a row: the model learns "
                "its texts by heart; fewer max_tokens (epochs), more text, a lower lora_rank or keep: best cure it",
                state.global_step,
                OVERFITTING_EVALUATIONS,
            )
        return reason


def evaluations(history: Iterable[dict[str, float]]) -> list[Evaluation]:
    """Those of a trainer's history, in order."""
    return [entry for entry in history if "heldout_domain" in entry]


def overfits(history: Sequence[dict[str, float]]) -> bool:
    """Whether the last evaluations each got worse on domain text, while the loss on domain examples got better."""
    spans = list(pairwise(evaluations(history)[-OVERFITTING_EVALUATIONS - 1 :]))
    if len(spans) < OVERFITTING_EVALUATIONS or any(
        a["heldout_domain"] >= b["heldout_domain"] for a, b in spans
    ):
        return False
    steps = [entry for entry in history if "loss" in entry]
    losses = [
        [e.get("domain", e["loss"]) for e in steps if a["step"] < e["step"] <= b["step"]]
        for a, b in spans
    ]
    return fmean(losses[-1]) < fmean(losses[0])


def _file(folder: Path, step: int) -> Path:
    return folder / f"kept-{step}.safetensors"


def _trainable(model: Any) -> list[tuple[str, torch.Tensor]]:
    return [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]


def _keep(model: Any, file: Path) -> None:
    try:
        with atomic_file(file) as temporary:
            save_file(
                {name: tensor.detach().contiguous() for name, tensor in _trainable(model)},
                temporary,
            )
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{file}: the weights to be kept cannot be written ({error}); make room and run it again: it goes on from "
            "its last checkpoint"
        ) from None
