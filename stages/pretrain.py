"""Continued pre-training on the domain's text, mixed with replayed general text."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from lmadapt.core.files import atomic_folder, write_json
from lmadapt.core.stage_runner import run
from lmadapt.core.tables import DOCUMENT, read_table
from lmadapt.models.chat import PLAIN_TEMPLATE
from lmadapt.models.loading import load_tokenizer, save_model
from lmadapt.models.merging import merge_adapter
from lmadapt.planning.plan import check_memory
from lmadapt.training.adapters import trainable_model
from lmadapt.training.checkpoints import remove_checkpoints
from lmadapt.training.distributed import launch
from lmadapt.training.encoding import encode_documents
from lmadapt.training.heldout import read_heldout
from lmadapt.training.params import TrainingParams
from lmadapt.training.replay import Document, replay_loss_tokens
from lmadapt.training.self_replay import self_texts
from lmadapt.training.train_stage import mix_and_pack, train_stage

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
    """Train the model at `base` on `corpus` mixed with `replay`; write it in bf16 to `pretrained`.

    `heldout` is text that is never trained on, scored during training.
    """
    launch("pretrain", params)
    micro_batch_rows = check_memory("pretrain", params, base)
    tokenizer = load_tokenizer(base)
    if tokenizer.chat_template != PLAIN_TEMPLATE:
        log.warning(
            "%s has a chat template of its own; if it is an instruct model, continued pre-training "
            "undoes part of its instruction tuning, and a base model is the better start "
            "(docs/training.md)",
            base,
        )

    encode = partial(encode_documents, tokenizer, max_tokens=params.max_sequence_tokens)
    domain = encode(read_table(corpus, DOCUMENT).to_pylist())
    general = encode(_general_texts(params, base, tokenizer, replay, domain))
    mixture, rows = mix_and_pack(params, domain, general)
    scorer = read_heldout(params, tokenizer, heldout)

    model = trainable_model(base, params)
    result = train_stage(
        "pretrain",
        params,
        model,
        rows,
        base=base,
        general=general,
        heldout=scorer,
        micro_batch_rows=micro_batch_rows,
    )

    merge_difference = None
    if params.method == "lora":
        sample = torch.tensor(mixture.examples[0].input_ids)
        model, merge_difference = merge_adapter(model, sample)
    with atomic_folder(pretrained) as temporary:
        save_model(model, tokenizer, temporary)
    result.write_curve(curve)
    write_json(
        metrics,
        {**result.metrics(), **mixture.metrics(), "merge_difference": merge_difference},
    )
    remove_checkpoints("pretrain")


def _general_texts(
    params: PretrainParams, base: Path, tokenizer: Any, replay: Path, domain: Sequence[Document]
) -> list[dict[str, Any]]:
    """Rows of DOCUMENT to replay: the table `replay`, or what the model at `base` writes itself."""
    if params.replay_source == "general":
        return list(read_table(replay, DOCUMENT).to_pylist())
    needed = replay_loss_tokens(
        domain, fraction=params.replay_fraction, max_tokens=params.max_tokens
    )
    return self_texts(
        base,
        tokenizer,
        tokens=needed,
        max_sequence_tokens=params.max_sequence_tokens,
        seed=params.seed,
    )


if __name__ == "__main__":
    run(pretrain)
