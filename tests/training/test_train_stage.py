from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.training.checkpoints import remove_checkpoints
from lmadapt.training.packing import PackedRow
from lmadapt.training.params import TrainingParams
from lmadapt.training.train_stage import train_stage
from tests.training.small_training import random_rows

PARAMS: dict[str, Any] = {
    "seed": 0,
    "method": "lora",
    "lora_rank": 2,
    "lora_alpha": 4,
    "lora_variant": "lora",
    "target_modules": "all-linear",
    "learning_rate": 1e-3,
    "lr_schedule": "cosine",
    "warmup_fraction": 0.1,
    "decay_fraction": 0.2,
    "weight_decay": 0.0,
    "optimizer": "auto",
    "embedding_learning_rate_factor": 1.0,
    "max_tokens": 9000,
    "max_sequence_tokens": 512,
    "batch_tokens": 1100,
    "micro_batch_rows": "auto",
    "activation_checkpointing": "auto",
    "replay_fraction": 0.1,
    "replay_source": "general",
    "replay_weights": {},
    "kl_weight": 0.0,
    "kl_tokens": "replay",
    "l2_sp_weight": 0.0,
    "ewc_weight": 0.0,
    "si_weight": 0.0,
    "fisher_examples": 8,
    "frozen_layers": 0,
    "checkpoint_minutes": 5.0,
    "accelerate_config": None,
    "heldout_every_steps": 0,
    "heldout_tokens": 500,
    "keep": "last",
    "patience": None,
    "retention_budget_bits_per_byte": None,
}


def test_a_step_smaller_than_a_row_is_refused() -> None:
    params = TrainingParams(**PARAMS)
    assert params.rows_per_step == 2
    with pytest.raises(UserError, match=r"batch_tokens is 500.*at least max_sequence_tokens, 512"):
        _ = params.model_copy(update={"batch_tokens": 500}).rows_per_step


def test_checkpoint_folders_belong_to_settings_rows_and_base_and_are_removed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_and_name_folder(*_: Any, checkpoints: Path, **__: Any) -> Path:
        checkpoints.mkdir(parents=True, exist_ok=True)
        return checkpoints

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lmadapt.training.train_stage.train", train_and_name_folder)
    base = tmp_path / "base"
    base.mkdir()
    params, rows = TrainingParams(**PARAMS), random_rows(4)

    def folder_of(settings: TrainingParams, used: list[PackedRow], weights: str) -> Any:
        (base / "weights").write_text(weights)
        return train_stage("sft", settings, None, used, base=base)

    first = folder_of(params, rows, "1")
    others = [
        folder_of(params.model_copy(update={"seed": 2}), rows, "1"),
        folder_of(params, rows[1:], "1"),
        folder_of(params, rows, "2"),
    ]
    assert folder_of(params, rows, "1") == first
    assert len({first, *others}) == 4
    assert all(folder.is_dir() for folder in (first, *others))
    remove_checkpoints("pretrain")
    assert first.is_dir()
    remove_checkpoints("sft")
    assert not any(folder.exists() for folder in (first, *others))
