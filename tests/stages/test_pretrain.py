import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from lmadapt.core.errors import UserError
from lmadapt.core.files import folder_sha256
from lmadapt.core.tables import DOCUMENT, write_table
from lmadapt.models.loading import load_bf16
from lmadapt.training.params import HeldoutParams
from stages.pretrain import PretrainParams, pretrain
from tests.tables import write_heldout, write_texts

PARAMS: dict[str, Any] = {
    "seed": 0,
    "method": "lora",
    "lora_rank": 2,
    "lora_alpha": 4,
    "lora_variant": "lora",
    "target_modules": "all-linear",
    "learning_rate": 3e-3,
    "lr_schedule": "wsd",
    "warmup_fraction": 0.1,
    "decay_fraction": 0.2,
    "weight_decay": 0.0,
    "optimizer": "auto",
    "embedding_learning_rate_factor": 1.0,
    "max_tokens": 1500,
    "max_sequence_tokens": 128,
    "batch_tokens": 256,
    "micro_batch_rows": "auto",
    "activation_checkpointing": "auto",
    "replay_fraction": 0.1,
    "replay_source": "general",
    "replay_weights": {},
    "kl_weight": 0.1,
    "kl_tokens": "replay",
    "l2_sp_weight": 0.0,
    "ewc_weight": 0.1,
    "si_weight": 0.0,
    "fisher_examples": 4,
    "frozen_layers": 0,
    "checkpoint_minutes": 5.0,
    "accelerate_config": None,
    "heldout_every_steps": 0,
    "heldout_tokens": 500,
    "keep": "last",
    "patience": None,
    "retention_budget_bits_per_byte": None,
}
# Alone they change nothing:
NEUTRAL = {
    "checkpoint_minutes",
    "accelerate_config",
    "activation_checkpointing",
    *HeldoutParams.model_fields,
}
CHANGED: dict[str, Any] = {
    "seed": 1,
    "method": "full",
    "lora_rank": 4,
    "lora_alpha": 16,
    "lora_variant": "dora",
    "target_modules": "retain",
    "learning_rate": 1e-2,
    "lr_schedule": "cosine",
    "warmup_fraction": 0.5,
    "decay_fraction": 0.6,
    "weight_decay": 10.0,
    "optimizer": "paged_adamw_8bit",
    "embedding_learning_rate_factor": 0.1,
    "max_tokens": 900,
    "max_sequence_tokens": 64,
    "batch_tokens": 512,
    "micro_batch_rows": 2,
    "replay_fraction": 0.3,
    "replay_source": "self",
    "replay_weights": {"facts": 3.0, "talk": 1.0},
    "kl_weight": 1.0,
    "kl_tokens": "all",
    "l2_sp_weight": 1.0,
    "ewc_weight": 1e4,
    "si_weight": 1.0,
    "fisher_examples": 8,
    "frozen_layers": 1,
}


THREE_STEPS: dict[str, Any] = {"max_tokens": 700}
FULL: dict[str, Any] = {"method": "full", "kl_weight": 0.0}


def _run(base: Path, folder: Path, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    return _pretrain(base, folder, *write_texts(folder), **changed)


def _pretrain(base: Path, folder: Path, corpus: Path, replay: Path, **changed: Any) -> Path:
    pretrain(
        PretrainParams(**PARAMS | changed),
        base=base,
        corpus=corpus,
        replay=replay,
        heldout=write_heldout(folder),
        pretrained=folder / "pretrained",
        curve=folder / "curve",
        metrics=folder / "pretrain.json",
    )
    return folder


@pytest.fixture(scope="module")
def plain(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        return _run(tiny_model, folder)


def test_the_stage_writes_a_model_with_tokenizer_and_template_and_no_path(
    tiny_model: Path, plain: Path
) -> None:
    model = load_bf16(plain / "pretrained")
    assert all(tensor.dtype == torch.bfloat16 for tensor in model.parameters())
    assert not torch.equal(
        model.model.layers[0].mlp.up_proj.weight,
        load_bf16(tiny_model).model.layers[0].mlp.up_proj.weight,
    )
    saved, given = (
        AutoTokenizer.from_pretrained(folder) for folder in (plain / "pretrained", tiny_model)
    )
    assert saved.chat_template == given.chat_template
    texts = [file.read_text() for file in (plain / "pretrained").glob("*.json")] + [
        (plain / "pretrain.json").read_text()
    ]
    assert not any(str(tiny_model) in text or str(plain) in text for text in texts)
    assert not (plain / ".lmadapt").exists() or not any((plain / ".lmadapt/checkpoints").iterdir())


def test_the_metrics_say_what_was_trained(plain: Path) -> None:
    metrics = json.loads((plain / "pretrain.json").read_text())
    assert metrics["replay"]["fraction_met"] == pytest.approx(0.1, abs=0.01)
    assert (
        metrics["tokens"]
        == metrics["domain"]["tokens_used"] + metrics["replay"]["tokens_used"]
        <= 1500
    )
    assert metrics["loss_last"] < metrics["loss_first"]
    assert metrics["steps"] == len((plain / "curve" / "loss.tsv").read_text().splitlines()) - 1
    assert 0 < metrics["merge_difference"]["kl_nats"] < 0.01
    assert metrics["trainable_parameters"] > 0


def test_a_second_run_elsewhere_gives_equal_files(
    tiny_model: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _run(tiny_model, tmp_path / "again")
    assert folder_sha256(tmp_path / "again") == folder_sha256(plain)


@pytest.fixture(scope="module")
def three_steps(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bool], Path]:
    """The result of three steps, with an adapter or with all weights trained."""
    done: dict[bool, Path] = {}

    def trained(full: bool) -> Path:
        if full not in done:
            folder = tmp_path_factory.mktemp("three_steps")
            done[full] = _run(tiny_model, folder, **THREE_STEPS | (FULL if full else {}))
        return done[full]

    return trained


@pytest.mark.parametrize("key", sorted({*PretrainParams.model_fields} - NEUTRAL))
def test_every_key_changes_the_model(
    key: str,
    tiny_model: Path,
    three_steps: Callable[[bool], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    # 8-bit Adam keeps tensors as small as those of the adapter in 32 bits.
    full = key in {"embedding_learning_rate_factor", "optimizer"}
    if key == "method":
        changed = three_steps(True)
    else:
        options = THREE_STEPS | (FULL if full else {}) | {key: CHANGED[key]}
        changed = _run(tiny_model, tmp_path / "changed", **options)
    weights = [
        (folder / "pretrained" / "model.safetensors").read_bytes()
        for folder in (three_steps(full), changed)
    ]
    assert weights[0] != weights[1]


def test_full_training_reports_no_merge(
    tiny_model: Path,
    three_steps: Callable[[bool], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = json.loads((three_steps(True) / "pretrain.json").read_text())
    assert metrics["merge_difference"] is None
    assert metrics["trainable_parameters"] == sum(
        tensor.numel() for tensor in load_bf16(tiny_model).parameters()
    )


def test_a_base_with_its_own_chat_template_gives_a_warning(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = "{{ messages }}"
    load_bf16(tiny_model).save_pretrained(tmp_path / "instruct")
    tokenizer.save_pretrained(tmp_path / "instruct")
    with caplog.at_level(logging.WARNING):
        _run(tmp_path / "instruct", tmp_path / "run", max_tokens=300)
    assert "if it is an instruct model" in caplog.text


def test_an_empty_corpus_is_an_error_and_writes_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus, replay = write_texts(tmp_path)
    write_table([], DOCUMENT, corpus)
    with pytest.raises(UserError, match="no domain data"):
        _pretrain(tiny_model, tmp_path, corpus, replay)
    assert not (tmp_path / "pretrained").exists()
