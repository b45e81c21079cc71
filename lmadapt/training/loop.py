"""The one training loop of pretrain and sft: transformers' Trainer over packed rows, with our labelled head."""

import functools
import logging
import math
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from pandas import DataFrame
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from safetensors import SafetensorError
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from lmadapt.core.errors import Interrupted, UserError
from lmadapt.core.files import atomic_folder
from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.training.anchors import PathIntegral, Penalty, Quadratic
from lmadapt.training.callbacks import Checkpoints, GradientCheck, Progress, step_tokens
from lmadapt.training.checkpoints import fingerprint, newest_whole, replace_checkpoints
from lmadapt.training.distributed import (
    gather,
    processes,
    rows_of_process,
    sharded,
    taken_over,
    whole_steps,
)
from lmadapt.training.heldout import Evaluation, Heldout, evaluations
from lmadapt.training.labelled_head import labelled_head, own_forward
from lmadapt.training.mlflow_run import MlflowRun
from lmadapt.training.oom_retry import MicroBatches
from lmadapt.training.packing import DOMAIN, REPLAY, Row, micro_batch, pack
from lmadapt.training.params import Optimizer, Schedule, TrainingParams
from lmadapt.training.replay import Document

log = logging.getLogger(__name__)

CHECKPOINTS = Path(".lmadapt/checkpoints")
WRITING = "writing"  # where a checkpoint is until it is whole
MAX_GRADIENT_NORM = 1.0
UNSHARDED = (
    "kl_weight",
    "l2_sp_weight",
    "ewc_weight",
    "si_weight",
    "heldout_every_steps",
)  # not with FSDP
COLUMNS = [
    "step",
    "learning_rate",
    "gradient_norm",
    "loss",
    "domain",
    "replay",
]  # nats per labelled token
SAMPLE_TOKENS = 64  # on which the labelled head is compared with the model's own


@dataclass(frozen=True)
class Outcome:
    """What a training did; `steps` holds one record per optimiser step: the COLUMNS of its curve."""

    tokens: int
    loss_tokens: int
    trainable_parameters: int
    steps: list[dict[str, float]]
    heldout: list[Evaluation]
    kept_step: int  # whose weights the model has

    def metrics(self) -> dict[str, Any]:
        """Counts, and the loss in nats per labelled token, meant over the first and the last tenth of the steps."""
        losses = [step["loss"] for step in self.steps]
        tenth = max(1, len(losses) // 10)
        return {
            "tokens": self.tokens,
            "loss_tokens": self.loss_tokens,
            "trainable_parameters": self.trainable_parameters,
            "steps": len(losses),
            "loss_first": round(sum(losses[:tenth]) / tenth, 4),
            "loss_last": round(sum(losses[-tenth:]) / tenth, 4),
            "kept_step": self.kept_step,
            "heldout_bits_per_byte": [
                {name: round(value, 6) for name, value in one.items()} for one in self.heldout
            ],
        }

    def write_curve(self, folder: Path) -> None:
        """Write `loss.tsv` and `heldout.tsv` for `dvc plots`: a line per step, or evaluation, of a resumed run too."""
        heldout = DataFrame(self.heldout, columns=["step", "heldout_domain", "heldout_general"])
        tables = {"loss": DataFrame(self.steps, columns=COLUMNS), "heldout": heldout}
        with atomic_folder(folder) as temporary:
            for name, table in tables.items():
                table.to_csv(temporary / f"{name}.tsv", sep="\t", float_format="%.6g", index=False)


def train(
    model: Any,
    rows: Sequence[Row],
    *,
    rows_per_step: int,
    learning_rate: float,
    checkpoints: Path,
    lr_schedule: Schedule = "constant",
    warmup_fraction: float = 0.0,
    decay_fraction: float = 0.2,
    weight_decay: float = 0.0,
    optimizer: Optimizer = "auto",
    embedding_learning_rate_factor: float = 1.0,
    micro_batch_rows: int = 1,
    activation_checkpointing: bool | Literal["auto"] = "auto",
    seed: int = 0,
    checkpoint_minutes: float = 5.0,
    penalties: Sequence[Penalty] = (),
    heldout: Heldout | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Outcome:
    """Train what requires gradients in `model`, once over the rows in their order, `micro_batch_rows` in a pass.

    The loss of a step is the mean over all labelled tokens of its `rows_per_step` rows, plus `penalties`. Matrix
    products are in bf16, trainable parameters in their own type. Continues from the newest whole checkpoint in
    `checkpoints`. The same arguments give the same model, bit by bit, on the same CPU with as many threads,
    interrupted or not. Raises UserError naming the step where the loss is not finite or a trainable tensor gets no
    gradient, and for what the model or the rows do not allow; Interrupted after SIGTERM or SIGINT, with a checkpoint
    of the step under way. With `heldout` it may end early, and the model gets the weights that are kept.
    """
    _check_model(model, rows)
    whole, model = model, taken_over(model) if sharded() else model
    use_cache, keeper = model.config.use_cache, Checkpoints(checkpoint_minutes)
    watchers = (
        [heldout] if heldout else []
    )  # after `keeper`: they may say that a checkpoint is not needed
    trainer = _Trainer(
        model=model,
        args=_arguments(
            checkpoints,
            rows_per_step,
            learning_rate,
            weight_decay,
            optimizer,
            micro_batch_rows,
            activation_checkpointing,
            seed,
        ),
        train_dataset=whole_steps(list(rows), micro_batch_rows * processes()),
        data_collator=micro_batch,
        callbacks=[GradientCheck(), Progress(rows, rows_per_step), keeper, *callbacks, *watchers],
    )
    if (
        sharded()
    ):  # accelerate's policy would round counts of tokens, losses and sums of gradients to bf16 too
        policy = MixedPrecisionPolicy(
            torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = policy
    trainer.remove_callback(PrinterCallback)
    trainer.penalties, trainer.embedding_learning_rate_factor = (
        penalties,
        embedding_learning_rate_factor,
    )
    trainer.lr_factor = functools.partial(
        lr_factor,
        schedule=lr_schedule,
        warmup_fraction=warmup_fraction,
        decay_fraction=decay_fraction,
    )
    sample = torch.tensor(rows[0]["input_ids"][:SAMPLE_TOKENS], device=model.device)
    language_model = model.get_base_model() if isinstance(model, PeftModel) else model
    # LoRA layers would cast their input to fp32, and autocast it back: a tenth of a CPU step.
    with (
        own_forward(model),
        labelled_head(language_model, sample),
        disable_input_dtype_casting(model),
    ):
        trainer.train(resume_from_checkpoint=newest_whole(checkpoints))
    if sharded():
        gather(model, whole)
    model = whole
    model.config.use_cache = use_cache
    state = trainer.state
    if keeper.told and state.global_step < state.max_steps and not (heldout and heldout.stopped):
        place = f"step {state.global_step} of {state.max_steps}"
        code = 75 if keeper.told == signal.SIGTERM else 128 + keeper.told
        raise Interrupted(f"told to end after {place}; run it again to go on from there", code)
    seen = rows[: state.global_step * rows_per_step]
    return Outcome(
        tokens=sum(len(row["input_ids"]) for row in seen),
        loss_tokens=sum(label != IGNORED for row in seen for label in row["labels"]),
        trainable_parameters=sum(
            tensor.numel() for tensor in model.parameters() if tensor.requires_grad
        ),
        steps=[
            {
                "gradient_norm": entry["grad_norm"],
                **{name: entry[name] for name in COLUMNS if name in entry},
            }
            for entry in state.log_history
            if "loss" in entry
        ],
        heldout=evaluations(state.log_history),
        kept_step=heldout.restore(model, state, checkpoints) if heldout else state.global_step,
    )


def lr_factor(
    step: int,
    steps: int,
    *,
    schedule: Schedule,
    warmup_fraction: float,
    decay_fraction: float = 0.2,
) -> float:
    """Share of the learning rate in step `step` (from 0) of `steps`: linear warm-up, then constant or cosine to 0.

    `wsd` stays constant until the last `decay_fraction` of the steps, where it falls as 1 - sqrt to 0 (warm-up, stable,
    decay: Hu et al. 2024, arXiv 2404.06395; the shape of its end: Hägele et al. 2024, arXiv 2405.18392).
    Unlike transformers' schedules it starts above zero: with a dozen steps, a first step of rate 0 is a step lost.
    """
    warmup = math.ceil(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "wsd":
        decay = max(1, math.ceil(steps * decay_fraction))
        return 1 - math.sqrt(max(0, step - (steps - decay)) / decay)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@contextmanager
def trained(
    stage: str,
    params: TrainingParams,
    base: Path,
    model: Any,
    rows: Sequence[Row],
    general: Sequence[Document] = (),
    heldout: Heldout | None = None,
    micro_batch_rows: int = 1,
) -> Iterator[Outcome]:
    """Train `model`, made of `base`; checkpoints of the stage are removed when the block that writes it succeeds.

    `general` is training data of general ability, from which anchors are estimated. The checkpoints' folder belongs to
    these settings, base weights and data: what was begun with others is not continued.
    """
    if sharded() and (used := [name for name in UNSHARDED if getattr(params, name)]):
        raise UserError(
            f"{stage}.{used[0]} needs the whole model on each device, which FSDP does not keep; allowed: 0"
        )
    sample = params.general_sample(general, params.seed)
    if params.micro_batch_rows == "auto":
        micro_batch_rows = math.gcd(micro_batch_rows, rows_of_process(params.rows_per_step))
    path = _path(params, model, sample) if params.si_weight else None
    penalties = params.penalties(model, sample, params.seed)
    if path:
        penalties.append(Quadratic(model, params.si_weight, path.importance()))
    outcome = train(
        model,
        rows,
        rows_per_step=params.rows_per_step,
        learning_rate=params.learning_rate,
        lr_schedule=params.lr_schedule,
        warmup_fraction=params.warmup_fraction,
        decay_fraction=params.decay_fraction,
        weight_decay=params.weight_decay,
        optimizer=params.optimizer,
        embedding_learning_rate_factor=params.embedding_learning_rate_factor,
        micro_batch_rows=micro_batch_rows,
        activation_checkpointing=params.activation_checkpointing,
        seed=params.seed,
        penalties=penalties,
        heldout=heldout,
        checkpoint_minutes=params.checkpoint_minutes,
        callbacks=[MlflowRun(stage, params.model_dump(), step_tokens(rows, params.rows_per_step))],
        checkpoints=CHECKPOINTS
        / f"{stage}-{fingerprint(params, base, rows, [sample, heldout and heldout.windows])}",
    )
    if not PartialState().is_main_process:
        sys.exit(0)  # the main process has the model, and writes it
    yield outcome
    for folder in CHECKPOINTS.glob(f"{stage}-*"):
        shutil.rmtree(folder)


def _path(params: TrainingParams, model: Any, examples: Sequence[Encoded]) -> PathIntegral:
    """What a first training on general examples, once over them, says of the importance of each parameter."""
    rows = pack(examples, max_tokens=params.max_sequence_tokens, rows_per_step=params.rows_per_step)
    path = PathIntegral(model)
    settings: dict[str, Any] = {
        "rows_per_step": params.rows_per_step,
        "learning_rate": params.learning_rate,
    }
    with (
        TemporaryDirectory() as folder
    ):  # repeated whole after an interruption: half a path says nothing
        train(model, rows, **settings, seed=params.seed, checkpoints=Path(folder), callbacks=[path])
    return path


class _Trainer(MicroBatches):
    """transformers' Trainer with our learning-rate schedule; the loss is computed inside the model's forward."""

    lr_factor: Callable[[int, int], float]
    penalties: Sequence[Penalty]
    embedding_learning_rate_factor = 1.0
    by_source: torch.Tensor | None = (
        None  # [2, 2]: nats and labelled tokens of the step under way, domain and replay
    )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        given = {name: tensor for name, tensor in inputs.items() if name != "sources"}
        loss, output = super().compute_loss(model, given, True, num_items_in_batch)
        if output.get("token_losses") is not None:
            self._add_by_source(inputs, output.token_losses)
        if output.hidden_states is not None:
            inputs = inputs | {"hidden": output.hidden_states[-1]}
        # Gradients of several processes are averaged: the Trainer scales the loss up for it, in the same way.
        processes = self.accelerator.num_processes
        return loss + sum(
            processes * penalty(inputs, num_items_in_batch) for penalty in self.penalties
        )

    def forget_partial_step(self) -> None:
        self.by_source = None

    def _add_by_source(self, inputs: dict[str, Any], losses: torch.Tensor) -> None:
        sources = inputs["sources"][:, 1:][inputs["labels"][:, 1:] != IGNORED]
        sums = [
            torch.stack([losses[sources == one].sum(), (sources == one).sum()])
            for one in (DOMAIN, REPLAY)
        ]
        self.by_source = torch.stack(sums) + (0.0 if self.by_source is None else self.by_source)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the loss of each source that the step had: nats per labelled token."""
        if "loss" in logs and self.by_source is not None:
            sums = self.accelerator.reduce(self.by_source).tolist()
            names = ("domain", "replay")
            logs |= {
                name: nats / tokens
                for name, (nats, tokens) in zip(names, sums, strict=True)
                if tokens
            }
            self.by_source = None
        super().log(logs, start_time)

    def _get_output_dir(self, trial: Any) -> str:
        return f"{self.args.output_dir}/{WRITING}"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Under another name until it is whole; where there is no room for it, training goes on with the older one."""
        folder, writing, failure = (
            Path(self.args.output_dir),
            Path(self._get_output_dir(trial)),
            None,
        )
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            failure = error
        failed = torch.tensor(int(failure is not None), device=self.args.device)
        complete = not self.accelerator.reduce(failed)  # once each process has written its part
        if self.is_world_process_zero():
            try:
                replace_checkpoints(folder, writing if complete else None)
            except OSError as error:
                failure = error
            shutil.rmtree(writing, ignore_errors=True)
        if failure:
            log.warning(
                "step %d: no checkpoint was written, training goes on: %s",
                self.state.global_step,
                failure,
            )
        self.accelerator.wait_for_everyone()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Embedding and head in groups of their own, where they are trained and have a learning rate of their own."""
        optimizer, factor = super().create_optimizer(model), self.embedding_learning_rate_factor
        if factor != 1:
            model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
            own = {
                id(part.weight)
                for part in (model.get_input_embeddings(), model.get_output_embeddings())
                if part
            }
            for group in list(optimizer.param_groups):
                apart = [tensor for tensor in group["params"] if id(tensor) in own]
                group["params"] = [tensor for tensor in group["params"] if id(tensor) not in own]
                if apart:
                    optimizer.add_param_group(
                        {**group, "params": apart, "lr": group["lr"] * factor}
                    )
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        self.lr_scheduler = LambdaLR(
            optimizer or self.optimizer, lambda step: self.lr_factor(step, num_training_steps)
        )
        return self.lr_scheduler


def _check_model(model: Any, rows: Sequence[Row]) -> None:
    longest = max(position for row in rows for position in row["position_ids"]) + 1
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit and longest > limit:
        raise UserError(
            f"max_sequence_tokens: an example has {longest} tokens, and the model takes at most {limit}"
        )
    for name, tensor in model.named_parameters():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f"the weights of the model are not finite: {name}; `dvc repro --force` makes it anew"
            )


def _arguments(
    checkpoints: Path,
    rows_per_step: int,
    learning_rate: float,
    weight_decay: float,
    optimizer: Optimizer,
    micro_batch_rows: int,
    activation_checkpointing: bool | Literal["auto"],
    seed: int,
) -> TrainingArguments:
    gpu = torch.cuda.is_available()
    share = rows_of_process(rows_per_step)
    if share % micro_batch_rows:
        allowed = ", ".join(str(size) for size in range(1, share + 1) if share % size == 0)
        raise UserError(
            f"micro_batch_rows is {micro_batch_rows}; allowed with {share} rows a step: {allowed}"
        )
    paged = (
        gpu and not sharded()
    )  # bitsandbytes' optimisers know no tensors of which a process holds a part
    chosen = ("paged_adamw_8bit" if paged else "adamw_torch") if optimizer == "auto" else optimizer
    log.info("optimizer %s, %d rows a pass, %d a step", chosen, micro_batch_rows, rows_per_step)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        seed=seed,
        use_cpu=not gpu,
        bf16=True,
        optim=chosen,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        max_grad_norm=MAX_GRADIENT_NORM,
        num_train_epochs=1,
        per_device_train_batch_size=micro_batch_rows,
        gradient_accumulation_steps=share // micro_batch_rows,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,  # GradientCheck refuses such
        dataloader_pin_memory=gpu,
        activation_checkpointing=gpu
        if activation_checkpointing == "auto"
        else activation_checkpointing,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # Checkpoints asks for them
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(
        1, arguments.n_gpu
    )  # on several GPUs one process would split rows by DataParallel
    if sharded() and not gpu:
        # accelerate would train whole copies on CPUs, and say nothing; what shards on GPUs shards here all the same
        PartialState().distributed_type = DistributedType.MULTI_GPU
    return arguments
