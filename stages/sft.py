"""Supervised fine-tuning on the domain's instructions, mixed with replay: QLoRA, LoRA or full."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from lmadapt.core.files import atomic_folder, write_json
from lmadapt.core.stage_runner import run
from lmadapt.core.tables import INSTRUCTION, read_table
from lmadapt.models.loading import load_tokenizer, save_model
from lmadapt.planning.plan import check_memory
from lmadapt.training.adapters import save_adapter, trainable_model
from lmadapt.training.checkpoints import remove_checkpoints
from lmadapt.training.distributed import launch
from lmadapt.training.encoding import encode_instructions
from lmadapt.training.heldout import read_heldout
from lmadapt.training.params import TrainingParams
from lmadapt.training.replay import Document, replay_loss_tokens
from lmadapt.training.self_replay import self_instructions
from lmadapt.training.train_stage import mix_and_pack, train_stage


class SftParams(TrainingParams):
    """Settings of supervised fine-tuning."""

    lora_dropout: float = Field(ge=0, lt=1)


def sft(
    params: SftParams,
    *,
    base: Path,
    pristine: Path,
    instructions: Path,
    replay: Path,
    heldout: Path,
    adapter: Path,
    curve: Path,
    metrics: Path,
) -> None:
    """Train an adapter over the model at `base`; write it, with its tokenizer, to `adapter`.

    With `method: full` all weights are trained, and `adapter` gets the whole model. `pristine` is
    the model before any training: with `replay_source: self` it writes what is replayed. `heldout`
    is text that is never trained on, scored during training.
    """
    launch("sft", params)
    micro_batch_rows = check_memory("sft", params, base)
    tokenizer = load_tokenizer(base)

    encode = partial(encode_instructions, tokenizer, max_tokens=params.max_sequence_tokens)
    domain = encode(read_table(instructions, INSTRUCTION).to_pylist())
    general = encode(_general_conversations(params, pristine, replay, domain.fitting))
    mixture, rows = mix_and_pack(params, domain.fitting, general.fitting)
    scorer = read_heldout(params, tokenizer, heldout)

    model = trainable_model(base, params, dropout=params.lora_dropout)
    result = train_stage(
        "sft",
        params,
        model,
        rows,
        base=base,
        general=general.fitting,
        heldout=scorer,
        micro_batch_rows=micro_batch_rows,
    )

    with atomic_folder(adapter) as temporary:
        if params.method == "full":
            save_model(model, tokenizer, temporary)
        else:
            save_adapter(model, temporary, base_name="pretrained")
            tokenizer.save_pretrained(temporary)
    result.write_curve(curve)
    skipped = {
        "skipped_too_long": {"domain": domain.too_long, "replay": general.too_long},
        "skipped_unusable": {"domain": domain.unusable, "replay": general.unusable},
    }
    write_json(metrics, {**result.metrics(), **mixture.metrics(), **skipped})
    remove_checkpoints("sft")


def _general_conversations(
    params: SftParams, pristine: Path, replay: Path, domain: Sequence[Document]
) -> list[dict[str, Any]]:
    """Rows of INSTRUCTION to replay: the table `replay`, or what the pristine model writes."""
    if params.replay_source == "general":
        return list(read_table(replay, INSTRUCTION).to_pylist())
    needed = replay_loss_tokens(
        domain, fraction=params.replay_fraction, max_tokens=params.max_tokens
    )
    tokenizer = load_tokenizer(pristine)
    return self_instructions(pristine, tokenizer, loss_tokens=needed, seed=params.seed)


if __name__ == "__main__":
    run(sft)
