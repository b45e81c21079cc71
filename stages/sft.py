"""Supervised fine-tuning: QLoRA on the domain's instructions, mixed with replayed general ones."""

from pathlib import Path

from pydantic import Field

from lmadapt.adapters import Targets, add_lora, save_adapter
from lmadapt.encoding import encode_instructions
from lmadapt.files import atomic_folder, write_json
from lmadapt.models import load_tokenizer, load_unpacked_nf4
from lmadapt.packing import pack
from lmadapt.records import INSTRUCTION, read_table
from lmadapt.replay import mix_replay
from lmadapt.sections import Section
from lmadapt.stage import run
from lmadapt.training import Schedule, checkpointing, rows_per_step, train


class SftParams(Section):
    """Settings of supervised fine-tuning; tokens are those of the model's tokenizer."""

    seed: int = Field(ge=0)
    lora_rank: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    lora_dropout: float = Field(ge=0, lt=1)
    target_modules: Targets
    learning_rate: float = Field(gt=0)
    lr_schedule: Schedule
    warmup_fraction: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    max_tokens: int = Field(ge=1)
    max_sequence_tokens: int = Field(ge=8)
    batch_tokens: int = Field(ge=8)
    replay_fraction: float = Field(ge=0, lt=1)


def sft(
    params: SftParams, *, base: Path, instructions: Path, replay: Path, adapter: Path, curve: Path, metrics: Path
) -> None:
    """Train a LoRA adapter over the model at `base` in NF4; write it, with tokenizer and template, to `adapter`."""
    tokenizer = load_tokenizer(base)
    domain, general = (
        encode_instructions(
            tokenizer, read_table(table, INSTRUCTION).to_pylist(), max_tokens=params.max_sequence_tokens
        )
        for table in (instructions, replay)
    )
    mixture = mix_replay(
        domain.documents,
        general.documents,
        fraction=params.replay_fraction,
        max_tokens=params.max_tokens,
        seed=params.seed,
    )
    step_rows = rows_per_step(params.batch_tokens, params.max_sequence_tokens)
    rows = pack(mixture.examples, max_tokens=params.max_sequence_tokens, rows_per_step=step_rows)
    model = add_lora(
        load_unpacked_nf4(base),
        rank=params.lora_rank,
        alpha=params.lora_alpha,
        dropout=params.lora_dropout,
        targets=params.target_modules,
        seed=params.seed,
    )
    with checkpointing("sft", params.model_dump(), base, rows) as checkpoints:
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
        with atomic_folder(adapter) as temporary:
            save_adapter(model, temporary, base_name="pretrained")
            tokenizer.save_pretrained(temporary)
        outcome.write_curve(curve)
        skipped = {"domain": domain.skipped_too_long, "replay": general.skipped_too_long}
        write_json(metrics, {**outcome.metrics(), **mixture.metrics(), "skipped_too_long": skipped})


if __name__ == "__main__":
    run(sft)
