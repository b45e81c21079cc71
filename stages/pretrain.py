"""Continued pre-training: the base model reads the domain's text, mixed with replayed general text."""

import logging
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from lmadapt.adapters import add_lora, merge
from lmadapt.chat import PLAIN_TEMPLATE
from lmadapt.encoding import encode_documents
from lmadapt.files import atomic_folder, write_json
from lmadapt.models import load_bf16, load_tokenizer, save_model
from lmadapt.packing import pack
from lmadapt.records import DOCUMENT, read_table
from lmadapt.replay import mix_replay
from lmadapt.sections import Section
from lmadapt.stage import run
from lmadapt.training import Schedule, checkpointing, rows_per_step, train

log = logging.getLogger(__name__)


class PretrainParams(Section):
    """Settings of continued pre-training; tokens are those of the model's tokenizer."""

    seed: int = Field(ge=0)
    method: Literal["lora", "full"]
    lora_rank: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    lr_schedule: Schedule
    warmup_fraction: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    max_tokens: int = Field(ge=1)
    max_sequence_tokens: int = Field(ge=8)
    batch_tokens: int = Field(ge=8)
    replay_fraction: float = Field(ge=0, lt=1)


def pretrain(
    params: PretrainParams, *, base: Path, corpus: Path, replay: Path, pretrained: Path, curve: Path, metrics: Path
) -> None:
    """Train the model at `base` on `corpus` mixed with `replay`; write it, in bf16, to `pretrained`."""
    tokenizer = load_tokenizer(base)
    if tokenizer.chat_template != PLAIN_TEMPLATE:
        log.warning(
            "%s has a chat template of its own; if it is an instruct model, continued pre-training undoes part of "
            "its instruction tuning, and a base model is the better start (docs/training.md)",
            base,
        )
    domain, general = (
        encode_documents(
            tokenizer, read_table(table, DOCUMENT)["text"].to_pylist(), max_tokens=params.max_sequence_tokens
        )
        for table in (corpus, replay)
    )
    mixture = mix_replay(
        domain, general, fraction=params.replay_fraction, max_tokens=params.max_tokens, seed=params.seed
    )
    step_rows = rows_per_step(params.batch_tokens, params.max_sequence_tokens)
    rows = pack(mixture.examples, max_tokens=params.max_sequence_tokens, rows_per_step=step_rows)
    model = load_bf16(base)
    if params.method == "lora":
        model = add_lora(model, rank=params.lora_rank, alpha=params.lora_alpha, seed=params.seed)
    else:
        model = model.float()  # bf16 has too few digits for small updates; the products are in bf16 all the same
    with checkpointing("pretrain", params.model_dump(), base, rows) as checkpoints:
        outcome = train(
            model,
            rows,
            rows_per_step=step_rows,
            learning_rate=params.learning_rate,
            lr_schedule=params.lr_schedule,
            warmup_fraction=params.warmup_fraction,
            weight_decay=params.weight_decay,
            seed=params.seed,
            checkpoints=checkpoints,
        )
        moved = None
        if params.method == "lora":
            model, moved = merge(model, torch.tensor(mixture.examples[0].input_ids))
        with atomic_folder(pretrained) as temporary:
            save_model(model, tokenizer, temporary)
        outcome.write_curve(curve)
        write_json(metrics, {**outcome.metrics(), **mixture.metrics(), "merge_difference": moved})


if __name__ == "__main__":
    run(pretrain)
