"""Supervised fine-tuning on the domain's instructions, mixed with replayed general ones: QLoRA, LoRA or all weights."""

from functools import partial
from pathlib import Path

from pydantic import Field

from lmadapt.core.files import atomic_folder, write_json
from lmadapt.core.stage_runner import run
from lmadapt.core.tables import INSTRUCTION, read_table
from lmadapt.models.loading import load_tokenizer, save_model
from lmadapt.planning.plan import check_memory
from lmadapt.training.adapters import save_adapter
from lmadapt.training.distributed import launch
from lmadapt.training.encoding import encode_instructions
from lmadapt.training.loop import trained
from lmadapt.training.params import TrainingParams
from lmadapt.training.replay import replay_loss_tokens
from lmadapt.training.self_replay import self_instructions


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
    """Train an adapter over the model at `base`; write it, with tokenizer and template, to `adapter`.

    With `method: full` that is a whole model, of which all weights were trained.
    `pristine` is the model before any training, which writes what is replayed where there is no general data;
    `heldout` is text that is never trained on, scored meanwhile.
    """
    launch("sft", params.accelerate_config)
    micro_batch_rows = check_memory("sft", params, base)
    tokenizer = load_tokenizer(base)
    encode = partial(encode_instructions, tokenizer, max_tokens=params.max_sequence_tokens)
    domain, domain_too_long = encode(read_table(instructions, INSTRUCTION).to_pylist())
    if params.replay_source == "self":
        needed = replay_loss_tokens(
            domain, fraction=params.replay_fraction, max_tokens=params.max_tokens
        )
        written = self_instructions(
            pristine, load_tokenizer(pristine), loss_tokens=needed, seed=params.seed
        )
    else:
        written = read_table(replay, INSTRUCTION).to_pylist()
    general, general_too_long = encode(written)
    mixture, rows = params.mix(domain, general)
    watched = params.heldout(tokenizer, heldout)
    model = params.prepare(base, dropout=params.lora_dropout)
    with trained("sft", params, base, model, rows, general, watched, micro_batch_rows) as outcome:
        with atomic_folder(adapter) as temporary:
            if params.method == "full":
                save_model(model, tokenizer, temporary)
            else:
                save_adapter(model, temporary, base_name="pretrained")
                tokenizer.save_pretrained(temporary)
        outcome.write_curve(curve)
        skipped = {"domain": domain_too_long, "replay": general_too_long}
        write_json(metrics, {**outcome.metrics(), **mixture.metrics(), "skipped_too_long": skipped})


if __name__ == "__main__":
    run(sft)
