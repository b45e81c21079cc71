"""Continued pre-training: the base model reads the domain's text, mixed with replayed general text."""

import logging
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from lmadapt.core.files import atomic_folder, write_json
from lmadapt.core.stage_runner import run
from lmadapt.core.tables import DOCUMENT, read_table
from lmadapt.models.chat import PLAIN_TEMPLATE
from lmadapt.models.loading import load_tokenizer, save_model
from lmadapt.planning.plan import check_memory
from lmadapt.training.adapters import merge
from lmadapt.training.distributed import launch
from lmadapt.training.encoding import encode_documents
from lmadapt.training.loop import trained
from lmadapt.training.params import TrainingParams
from lmadapt.training.replay import replay_loss_tokens
from lmadapt.training.self_replay import self_texts

log = logging.getLogger(__name__)


class PretrainParams(TrainingParams):
    """Settings of continued pre-training."""

    method: Literal["lora", "full"]


def pretrain(
    params: PretrainParams,
    *,
    base: Path,
    corpus: Path,
    replay: Path,
    heldout: Path,
    pretrained: Path,
    curve: Path,
    metrics: Path,
) -> None:
    """Train the model at `base` on `corpus` mixed with `replay`; write it, in bf16, to `pretrained`.

    `heldout` is text of neither, scored meanwhile.
    """
    launch("pretrain", params.accelerate_config)
    micro_batch_rows = check_memory("pretrain", params, base)
    tokenizer = load_tokenizer(base)
    if tokenizer.chat_template != PLAIN_TEMPLATE:
        log.warning(
            "%s has a chat template of its own; if it is an instruct model, continued pre-training undoes part of "
            "its instruction tuning, and a base model is the better start (docs/training.md)",
            base,
        )
    encode = partial(encode_documents, tokenizer, max_tokens=params.max_sequence_tokens)
    domain = encode(read_table(corpus, DOCUMENT).to_pylist())
    if params.replay_source == "self":
        needed = replay_loss_tokens(
            domain, fraction=params.replay_fraction, max_tokens=params.max_tokens
        )
        written = self_texts(
            base,
            tokenizer,
            tokens=needed,
            max_sequence_tokens=params.max_sequence_tokens,
            seed=params.seed,
        )
        general = encode(written)
    else:
        general = encode(read_table(replay, DOCUMENT).to_pylist())
    mixture, rows = params.mix(domain, general)
    watched = params.heldout(tokenizer, heldout)
    model = params.prepare(base)
    with trained(
        "pretrain", params, base, model, rows, general, watched, micro_batch_rows
    ) as outcome:
        moved = None
        if params.method == "lora":
            model, moved = merge(model, torch.tensor(mixture.examples[0].input_ids))
        with atomic_folder(pretrained) as temporary:
            save_model(model, tokenizer, temporary)
        outcome.write_curve(curve)
        write_json(metrics, {**outcome.metrics(), **mixture.metrics(), "merge_difference": moved})


if __name__ == "__main__":
    run(pretrain)
