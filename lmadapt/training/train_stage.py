"""The training of a stage by its params: rows, anchors, checkpoints, MLflow run."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from accelerate import PartialState

from lmadapt.models.chat import Encoded
from lmadapt.training.anchors import PathIntegral, Penalty, Quadratic, general_sample, penalties
from lmadapt.training.checkpoints import checkpoint_folder
from lmadapt.training.distributed import check_devices, processes, rows_of_process, sharded
from lmadapt.training.heldout import Heldout
from lmadapt.training.loop import train
from lmadapt.training.mlflow_run import MlflowRun
from lmadapt.training.packing import PackedRow, pack, tokens_per_step
from lmadapt.training.params import TrainingParams
from lmadapt.training.replay import Document, Mixture, mix_replay
from lmadapt.training.result import TrainingResult
from lmadapt.training.trainer import TrainSettings


def mix_and_pack(
    params: TrainingParams, domain: Sequence[Document], general: Sequence[Document]
) -> tuple[Mixture, list[PackedRow]]:
    """The mixture of domain and replayed general examples, and its rows in order of training."""
    mixture = mix_replay(
        domain,
        general,
        fraction=params.replay_fraction,
        max_tokens=params.max_tokens,
        seed=params.seed,
        weights=params.replay_weights,
    )
    rows = pack(
        mixture.examples,
        max_tokens=params.max_sequence_tokens,
        rows_per_step=params.rows_per_step,
    )
    return mixture, rows


def train_stage(
    stage: str,
    params: TrainingParams,
    model: Any,
    rows: Sequence[PackedRow],
    *,
    base: Path,
    general: Sequence[Document] = (),
    heldout: Heldout | None = None,
    micro_batch_rows: int = 1,
) -> TrainingResult:
    """Train `model`, made from the folder `base`, as `params` of `stage` say.

    Anchors are estimated from `general`, training data of general ability. `micro_batch_rows` rows
    fit into memory at once. Checkpoints belong to these settings, base weights and data; training
    never continues from those of others. They stay until the stage calls `remove_checkpoints`, once
    its outputs are written. With several processes only the main one returns; the others exit.
    """
    check_devices(stage, params, count=processes(), in_parts=sharded())
    if params.micro_batch_rows == "auto":
        rows_here = rows_of_process(params.rows_per_step, processes())
        micro_batch_rows = math.gcd(micro_batch_rows, rows_here)
    sample = general_sample(params, general, params.seed)
    checkpoints = checkpoint_folder(
        stage, params, base, rows, [sample, heldout and heldout.windows]
    )
    step_tokens = tokens_per_step(rows, params.rows_per_step)
    result = train(
        model,
        rows,
        _settings(params, micro_batch_rows),
        checkpoints=checkpoints,
        penalties=_penalties(params, model, sample),
        heldout=heldout,
        callbacks=[MlflowRun(stage, params.model_dump(), step_tokens)],
    )
    if not PartialState().is_main_process:
        sys.exit(0)  # the main process has the whole model, and writes it
    return result


def _settings(params: TrainingParams, micro_batch_rows: int) -> TrainSettings:
    return TrainSettings(
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
        checkpoint_minutes=params.checkpoint_minutes,
    )


def _penalties(params: TrainingParams, model: Any, sample: Sequence[Encoded]) -> list[Penalty]:
    """All anchors that are on; that of SI trains on `sample` first, the others start after it."""
    if not params.si_weight:
        return penalties(params, model, sample, params.seed)
    path = _path_over(params, model, sample)
    anchors = penalties(params, model, sample, params.seed)
    return [*anchors, Quadratic(model, params.si_weight, path.importance())]


def _path_over(params: TrainingParams, model: Any, sample: Sequence[Encoded]) -> PathIntegral:
    """The path of a first training, once over `sample`."""
    rows = pack(sample, max_tokens=params.max_sequence_tokens, rows_per_step=params.rows_per_step)
    path = PathIntegral(model)
    settings = TrainSettings(
        rows_per_step=params.rows_per_step, learning_rate=params.learning_rate, seed=params.seed
    )
    # After an interruption it runs again from its start: half a path says nothing.
    with TemporaryDirectory() as folder:
        train(model, rows, settings, checkpoints=Path(folder), callbacks=[path])
    return path
