"""The one training loop of pretrain and sft: once over packed rows, in their order."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import PrinterCallback, TrainerCallback

from lmadapt.core.errors import Interrupted, UserError
from lmadapt.models.chat import IGNORED
from lmadapt.training.adapters import trainable_parameters
from lmadapt.training.anchors import Penalty
from lmadapt.training.checkpoints import CheckpointTimer, newest_whole
from lmadapt.training.distributed import (
    fill_last_pass,
    gather_parameters,
    move_parameters,
    processes,
    sharded,
)
from lmadapt.training.gradient_check import GradientCheck
from lmadapt.training.heldout import Heldout, evaluations
from lmadapt.training.labelled_head import labelled_head, own_forward
from lmadapt.training.packing import PackedRow, stack_rows, tokens_per_step
from lmadapt.training.progress import ProgressReport
from lmadapt.training.result import TrainingResult, step_records
from lmadapt.training.trainer import PackedTrainer, TrainSettings, training_arguments

SAMPLE_TOKENS = 64  # on these the labelled head is compared with the model's own
EXIT_TEMPORARY = 75  # EX_TEMPFAIL of BSD's sysexits.h: schedulers start the stage again


def train(
    model: Any,
    rows: Sequence[PackedRow],
    settings: TrainSettings,
    *,
    checkpoints: Path,
    penalties: Sequence[Penalty] = (),
    heldout: Heldout | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainingResult:
    """Train what requires gradients in `model`, once over the rows in their order.

    The loss of a step is the mean over all labelled tokens of its rows, plus `penalties`. Matrix
    products are in bf16, trainable parameters in their own type. Training continues from the newest
    whole checkpoint in `checkpoints`. On the same CPU with as many threads, equal arguments give
    the same model bit by bit, interrupted or not. With `heldout` training may stop early, and the
    model gets the weights that are kept.

    Raises UserError with the step where the loss is not finite or a trainable tensor gets no
    gradient, and for a model or rows that cannot be trained; Interrupted after SIGTERM or SIGINT,
    with a checkpoint of the last step.
    """
    _check_lengths(model, rows)
    _check_weights(model)
    working = move_parameters(model) if sharded() else model
    use_cache = working.config.use_cache
    timer = CheckpointTimer(settings.checkpoint_minutes)
    progress = ProgressReport(tokens_per_step(rows, settings.rows_per_step))
    watching = [GradientCheck(), progress, timer, *callbacks]
    if heldout:
        watching.append(heldout)  # after `timer`, as it may cancel a checkpoint
    trainer = PackedTrainer(
        settings,
        penalties,
        model=working,
        args=training_arguments(settings, checkpoints),
        train_dataset=fill_last_pass(list(rows), settings.micro_batch_rows * processes()),
        data_collator=stack_rows,
        callbacks=watching,
    )
    trainer.remove_callback(PrinterCallback)
    try:
        _run(trainer, working, rows[0], newest_whole(checkpoints))
    finally:
        progress.stop()
    if sharded():
        gather_parameters(working, model)
    model.config.use_cache = use_cache
    _raise_if_interrupted(timer, trainer.state, heldout)
    kept_step = trainer.state.global_step
    if heldout:
        kept_step = heldout.restore(model, trainer.state, checkpoints)
    done = rows[: trainer.state.global_step * settings.rows_per_step]
    return _result(model, done, trainer.state, kept_step)


def _run(trainer: PackedTrainer, model: Any, row: PackedRow, checkpoint: str | None) -> None:
    """Train with the labelled head, from `checkpoint` where there is one."""
    if sharded():
        # accelerate's own policy would round counts, losses and sums of gradients to bf16 too.
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    sample = torch.tensor(row["input_ids"][:SAMPLE_TOKENS], device=model.device)
    language_model = model.get_base_model() if isinstance(model, PeftModel) else model
    with (
        own_forward(model),
        labelled_head(language_model, sample),
        # LoRA layers would cast their input to fp32, and autocast back: a tenth of a step on a CPU.
        disable_input_dtype_casting(model),
    ):
        trainer.train(resume_from_checkpoint=checkpoint)


def _raise_if_interrupted(timer: CheckpointTimer, state: Any, heldout: Heldout | None) -> None:
    stopped_early = heldout is not None and heldout.stopped
    if not timer.signal_number or state.global_step == state.max_steps or stopped_early:
        return
    terminated = timer.signal_number == signal.SIGTERM
    raise Interrupted(
        f"a signal stopped training after step {state.global_step} of {state.max_steps}; run it "
        "again to continue from there",
        EXIT_TEMPORARY if terminated else 128 + timer.signal_number,
    )


def _result(model: Any, rows: Sequence[PackedRow], state: Any, kept_step: int) -> TrainingResult:
    """The result of a training over `rows`, those of the steps that were done."""
    return TrainingResult(
        tokens=sum(len(row["input_ids"]) for row in rows),
        loss_tokens=sum(_labelled(row) for row in rows),
        trainable_parameters=sum(tensor.numel() for _, tensor in trainable_parameters(model)),
        steps=step_records(state.log_history),
        heldout=evaluations(state.log_history),
        kept_step=kept_step,
    )


def _labelled(row: PackedRow) -> int:
    return sum(label != IGNORED for label in row["labels"])


def _check_lengths(model: Any, rows: Sequence[PackedRow]) -> None:
    longest = max(max(row["position_ids"]) for row in rows) + 1
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit and longest > limit:
        raise UserError(
            f"max_sequence_tokens: an example has {longest} tokens, and the model takes at most "
            f"{limit}"
        )


def _check_weights(model: Any) -> None:
    for name, tensor in model.named_parameters():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f"the weights of the model are not finite: {name}; `dvc repro --force` makes it "
                "again"
            )
