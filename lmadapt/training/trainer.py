"""transformers' Trainer over packed rows: its arguments, loss by source, checkpoints, optimiser."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from peft import PeftModel
from safetensors import SafetensorError
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments

from lmadapt.core.errors import UserError
from lmadapt.models.chat import IGNORED
from lmadapt.training.anchors import Penalty
from lmadapt.training.checkpoints import replace_checkpoints
from lmadapt.training.distributed import processes, rows_of_process, sharded
from lmadapt.training.oom_retry import OomRetryTrainer
from lmadapt.training.packing import DOMAIN, REPLAY
from lmadapt.training.params import Optimizer, Schedule
from lmadapt.training.schedule import lr_factor

log = logging.getLogger(__name__)

WRITING = "writing"  # the folder of a checkpoint until it is whole
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How the loop trains; the keys of TrainingParams with the same names say the same."""

    rows_per_step: int
    learning_rate: float
    lr_schedule: Schedule = "constant"
    warmup_fraction: float = 0.0
    decay_fraction: float = 0.2
    weight_decay: float = 0.0
    optimizer: Optimizer = "auto"
    embedding_learning_rate_factor: float = 1.0
    micro_batch_rows: int = 1
    activation_checkpointing: bool | Literal["auto"] = "auto"
    seed: int = 0
    checkpoint_minutes: float = 5.0


def training_arguments(settings: TrainSettings, checkpoints: Path) -> TrainingArguments:
    """transformers' arguments; UserError where `micro_batch_rows` does not divide a step."""
    gpu = torch.cuda.is_available()
    rows = rows_of_process(settings.rows_per_step, processes())
    if rows % settings.micro_batch_rows:
        allowed = ", ".join(str(size) for size in range(1, rows + 1) if rows % size == 0)
        raise UserError(
            f"micro_batch_rows is {settings.micro_batch_rows}; allowed with {rows} rows a step: "
            f"{allowed}"
        )
    checkpointing = settings.activation_checkpointing
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        seed=settings.seed,
        use_cpu=not gpu,
        bf16=True,
        optim=_optimizer(settings),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=MAX_GRADIENT_NORM,
        num_train_epochs=1,
        per_device_train_batch_size=settings.micro_batch_rows,
        gradient_accumulation_steps=rows // settings.micro_batch_rows,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,  # GradientCheck refuses unused parameters
        dataloader_pin_memory=gpu,
        activation_checkpointing=gpu if checkpointing == "auto" else checkpointing,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # CheckpointTimer asks for checkpoints
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
    )
    # With several GPUs, one process would split rows between them by DataParallel.
    arguments._n_gpu = min(1, arguments.n_gpu)
    if sharded() and not gpu:
        # Else accelerate would silently train whole copies on CPUs, instead of sharding them.
        PartialState().distributed_type = DistributedType.MULTI_GPU
    return arguments


def _optimizer(settings: TrainSettings) -> str:
    chosen: str = settings.optimizer
    if chosen == "auto":
        # bitsandbytes' optimisers do not support tensors that are sharded over processes.
        paged = torch.cuda.is_available() and not sharded()
        chosen = "paged_adamw_8bit" if paged else "adamw_torch"
    log.info(
        "optimizer %s, %d rows a pass, %d rows a step",
        chosen,
        settings.micro_batch_rows,
        settings.rows_per_step,
    )
    return chosen


class PackedTrainer(OomRetryTrainer):
    """A Trainer with our learning-rate schedule, penalties, loss by source and checkpoints.

    The loss itself is computed inside the model's forward, by the labelled head.
    """

    def __init__(
        self, settings: TrainSettings, penalties: Sequence[Penalty], **options: Any
    ) -> None:
        super().__init__(**options)
        self.settings = settings
        self.penalties = penalties
        # [2, 2]: nats and labelled tokens of the current step, of domain and replay.
        self.loss_by_source: torch.Tensor | None = None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a micro-batch with its penalties; `sources` do not go to the model."""
        given = {name: tensor for name, tensor in inputs.items() if name != "sources"}
        loss, output = super().compute_loss(model, given, True, num_items_in_batch)
        if output.get("token_losses") is not None:
            self._add_to_sources(inputs, output.token_losses)
        if output.hidden_states is not None:
            inputs = inputs | {"hidden": output.hidden_states[-1]}
        # Gradients are averaged over processes: the Trainer scales its loss up by their number too.
        processes = self.accelerator.num_processes
        terms = [processes * penalty(inputs, num_items_in_batch) for penalty in self.penalties]
        return loss + sum(terms)

    def forget_partial_step(self) -> None:
        """Drop the losses by source of a step that starts again."""
        self.loss_by_source = None

    def _add_to_sources(self, inputs: dict[str, Any], token_losses: torch.Tensor) -> None:
        sources = inputs["sources"][:, 1:][inputs["labels"][:, 1:] != IGNORED]
        rows = []
        for source in (DOMAIN, REPLAY):
            chosen = sources == source
            rows.append(torch.stack([token_losses[chosen].sum(), chosen.sum()]))
        earlier = 0.0 if self.loss_by_source is None else self.loss_by_source
        self.loss_by_source = torch.stack(rows) + earlier

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the loss of each source that the step had, in nats per labelled token."""
        if "loss" in logs and self.loss_by_source is not None:
            sums = self.accelerator.reduce(self.loss_by_source).tolist()
            for name, (nats, tokens) in zip(("domain", "replay"), sums, strict=True):
                if tokens:
                    logs[name] = nats / tokens
            self.loss_by_source = None
        super().log(logs, start_time)

    def _get_output_dir(self, trial: Any) -> str:
        return f"{self.args.output_dir}/{WRITING}"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint under another name until it is whole.

        Where there is no room for it, training continues with the older one.
        """
        folder, writing = Path(self.args.output_dir), Path(self._get_output_dir(trial))
        failure: Exception | None = None
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            failure = error
        failed = torch.tensor(int(failure is not None), device=self.args.device)
        complete = not self.accelerator.reduce(failed)  # waits until each process wrote its part
        if self.is_world_process_zero():
            try:
                replace_checkpoints(folder, writing if complete else None)
            except OSError as error:
                failure = error
            shutil.rmtree(writing, ignore_errors=True)
        if failure:
            log.warning(
                "step %d: no checkpoint was written, training continues: %s",
                self.state.global_step,
                failure,
            )
        self.accelerator.wait_for_everyone()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Give embedding and head groups of their own, where they have their own learning rate."""
        optimizer = super().create_optimizer(model)
        factor = self.settings.embedding_learning_rate_factor
        if factor == 1:
            return optimizer
        language_model = self.model
        if isinstance(language_model, PeftModel):
            language_model = language_model.get_base_model()
        modules = (language_model.get_input_embeddings(), language_model.get_output_embeddings())
        separate = {id(module.weight) for module in modules if module}
        for group in list(optimizer.param_groups):
            moved = [tensor for tensor in group["params"] if id(tensor) in separate]
            group["params"] = [tensor for tensor in group["params"] if id(tensor) not in separate]
            if moved:
                optimizer.add_param_group({**group, "params": moved, "lr": group["lr"] * factor})
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The schedule of `lr_factor` over all steps."""
        settings = self.settings

        def factor(step: int) -> float:
            return lr_factor(
                step,
                num_training_steps,
                schedule=settings.lr_schedule,
                warmup_fraction=settings.warmup_fraction,
                decay_fraction=settings.decay_fraction,
            )

        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler
