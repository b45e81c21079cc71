"""Scores of held-out text during training: when to stop, and which weights to keep."""

import logging
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_file
from lmadapt.core.tables import HELDOUT, read_table
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import texts_within
from lmadapt.training.adapters import trainable_parameters
from lmadapt.training.params import HeldoutParams, TrainingParams

GROUPS = ("domain", "general")
SCORED_TOKENS = 4096  # at once; halved where memory is short
OVERFITTING_EVALUATIONS = 2  # in a row that got worse while the loss fell

Evaluation = dict[str, float]
"""One evaluation: `step`, and bits per byte as `heldout_domain` and `heldout_general`.

`heldout_general` is missing where there is no general held-out text.
"""

log = logging.getLogger(__name__)


def read_heldout(params: TrainingParams, tokenizer: Any, file: Path) -> "Heldout | None":
    """A callback that scores the table HELDOUT in `file`; None where `params` ask for no scores."""
    if not params.heldout_every_steps:
        return None
    documents = read_table(file, HELDOUT).to_pylist()
    return Heldout(params, documents, tokenizer, params.seed)


def stop_reason(params: HeldoutParams, evaluations: Sequence[Evaluation]) -> str:
    """Why training stops at the last of these evaluations; empty where it continues."""
    inside = _within_budget(params, evaluations)
    if len(inside) < len(evaluations):
        rise = evaluations[-1]["heldout_general"] - evaluations[0]["heldout_general"]
        return (
            f"general text takes {rise:.4f} bits per byte more than at the start; "
            f"retention_budget_bits_per_byte is {params.retention_budget_bits_per_byte}"
        )
    best = _best(inside)
    waited = sum(evaluation["step"] > best["step"] for evaluation in evaluations)
    if params.patience is not None and waited >= params.patience:
        return f"held-out domain text has not got better in {waited} evaluations"
    return ""


def step_to_keep(params: HeldoutParams, evaluations: Sequence[Evaluation]) -> int | None:
    """The step whose weights are kept; None for those of the last step.

    With `keep: best` these are the weights with the fewest bits per byte of domain text among the
    evaluations within the budget. With `last` they are the last within the budget, once general
    text exceeds it. The start is kept only where no later evaluation is within the budget.
    """
    inside = _within_budget(params, evaluations)
    if params.keep == "best":
        return int(_best(inside)["step"])
    return int(inside[-1]["step"]) if len(inside) < len(evaluations) else None


def _within_budget(params: HeldoutParams, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    budget = params.retention_budget_bits_per_byte
    if budget is None:
        return list(evaluations)
    limit = evaluations[0]["heldout_general"] + budget
    return [evaluation for evaluation in evaluations if evaluation["heldout_general"] <= limit]


def _best(inside: Sequence[Evaluation]) -> Evaluation:
    return min(inside[1:] or inside, key=lambda evaluation: evaluation["heldout_domain"])


class Heldout(TrainerCallback):
    """Score held-out text at the start, every `heldout_every_steps` steps and at the end.

    Stops training where `stop_reason` gives a reason. Scoring draws no random number and leaves the
    model's mode as it was, so training continues as if there were none. The evaluations stand in
    the Trainer's history, and so in each checkpoint; all decisions follow from them.
    """

    def __init__(
        self, params: HeldoutParams, documents: Iterable[dict[str, Any]], tokenizer: Any, seed: int
    ) -> None:
        """Choose up to `heldout_tokens` tokens of each group of the table HELDOUT.

        Raises UserError where domain text is missing, or general text that the budget needs.
        """
        self.params = params
        self.stopped = ""  # the reason, once training stops early
        self.windows: dict[str, list[Any]] = {group: [] for group in GROUPS}
        self.bytes = dict.fromkeys(GROUPS, 0)
        for text, windows in texts_within(documents, tokenizer, params.heldout_tokens, seed):
            self.windows[text["group"]] += windows
            self.bytes[text["group"]] += len(text["text"].encode())
        needed = GROUPS if params.retention_budget_bits_per_byte is not None else GROUPS[:1]
        for group in needed:
            if not self.windows[group]:
                raise UserError(
                    f"no held-out {group} text of at most {params.heldout_tokens} tokens: raise "
                    "heldout_tokens or curate.heldout_fraction, or set heldout_every_steps to 0"
                )

    def bits_per_byte(self, model: Any) -> Evaluation:
        """Bits per byte of each group that has text."""
        was_training = model.training
        model.eval()
        found = {}
        with torch.autocast(model.device.type, torch.bfloat16):
            for group, windows in self.windows.items():
                if windows:
                    scores = score(lambda: model, windows, batch_tokens=SCORED_TOKENS)
                    nats = -math.fsum(values[0] for values in scores)
                    found[f"heldout_{group}"] = nats / math.log(2) / self.bytes[group]
        model.train(was_training)
        return found

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        """Score the start, unless a checkpoint has its score."""
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
        """Score the steps that are due; where training stops early, skip its checkpoint."""
        due = (
            state.global_step % self.params.heldout_every_steps == 0
            or state.global_step == state.max_steps
        )
        if due and "loss" in logs:
            self.stopped = self._evaluate(args, state, model)
            if self.stopped:
                log.warning("step %d: training stops here: %s", state.global_step, self.stopped)
                control.should_training_stop, control.should_save = True, False

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Remove kept weights that no decision needs, once a checkpoint that says so is whole."""
        folder = Path(args.output_dir)
        written = (folder / f"checkpoint-{state.global_step}").is_dir()
        if not (state.is_world_process_zero and written):
            return
        done = evaluations(state.log_history)
        needed = {step_to_keep(self.params, done)}
        if self.params.keep == "last":
            needed |= {int(evaluation["step"]) for evaluation in done[-1:]}
        for file in folder.glob("kept-*.safetensors"):
            if int(file.stem.removeprefix("kept-")) not in needed:
                file.unlink()

    def restore(self, model: Any, state: Any, folder: Path) -> int:
        """Put the weights that are kept into `model`; return their step."""
        kept = step_to_keep(self.params, evaluations(state.log_history))
        if kept is None or kept == state.global_step:
            return int(state.global_step)
        log.warning("keeping the weights after step %d of %d", kept, state.max_steps)
        if state.is_world_process_zero:  # it alone writes the model
            found = load_file(_kept_file(folder, kept))
            with torch.no_grad():
                for name, tensor in trainable_parameters(model):
                    tensor.copy_(found[name])
        return kept

    def _evaluate(self, args: Any, state: Any, model: Any) -> str:
        """Score, note the evaluation in the history, keep weights where needed; why to stop."""
        # Each process takes part: it may hold a part of the model.
        (found,) = broadcast_object_list([self.bits_per_byte(model)])
        state.log_history.append({"step": state.global_step, **found})
        done = evaluations(state.log_history)
        reason = stop_reason(self.params, done)
        budget = self.params.retention_budget_bits_per_byte is not None
        best_so_far = step_to_keep(self.params, done) == state.global_step > 0
        if state.is_world_process_zero and ((budget and not reason) or best_so_far):
            _save_trainable(model, _kept_file(Path(args.output_dir), state.global_step))
        if overfits(state.log_history):
            log.warning(
                "step %d: the loss falls, but held-out domain text got worse %d times in a row: "
                "the model learns its texts by heart; fewer max_tokens (epochs), more text, a "
                "lower lora_rank or keep: best help",
                state.global_step,
                OVERFITTING_EVALUATIONS,
            )
        return reason


def evaluations(history: Iterable[dict[str, float]]) -> list[Evaluation]:
    """The evaluations in a Trainer's history, in order."""
    return [entry for entry in history if "heldout_domain" in entry]


def overfits(history: Sequence[dict[str, float]]) -> bool:
    """Whether domain text got worse in each of the last evaluations while its loss fell."""
    spans = list(pairwise(evaluations(history)[-OVERFITTING_EVALUATIONS - 1 :]))
    worse = [before["heldout_domain"] < after["heldout_domain"] for before, after in spans]
    if len(spans) < OVERFITTING_EVALUATIONS or not all(worse):
        return False
    losses = [_mean_domain_loss(history, before["step"], after["step"]) for before, after in spans]
    return losses[-1] < losses[0]


def _mean_domain_loss(history: Sequence[dict[str, float]], after: float, until: float) -> float:
    steps = [entry for entry in history if "loss" in entry and after < entry["step"] <= until]
    return fmean(step.get("domain", step["loss"]) for step in steps)


def _kept_file(folder: Path, step: int) -> Path:
    return folder / f"kept-{step}.safetensors"


def _save_trainable(model: Any, file: Path) -> None:
    tensors = {name: tensor.detach().contiguous() for name, tensor in trainable_parameters(model)}
    try:
        with atomic_file(file) as temporary:
            save_file(tensors, temporary)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{file}: the weights to keep cannot be written ({error}); make room and run it again: "
            "training continues from its last checkpoint"
        ) from None
