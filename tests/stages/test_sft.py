import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from lmadapt.core.errors import UserError
from lmadapt.core.files import file_sha256, folder_sha256
from lmadapt.core.tables import INSTRUCTION, write_table
from lmadapt.models.loading import load_bf16, load_for_inference, load_nf4
from lmadapt.registry.export import export_adapter, export_merged
from lmadapt.training.adapters import add_lora, save_adapter
from lmadapt.training.checkpoints import fingerprint
from lmadapt.training.params import HeldoutParams
from lmadapt.training.progress import ProgressReport
from stages.sft import SftParams, sft
from tests.tables import instruction, write_heldout, write_instructions

PARAMS: dict[str, Any] = {
    "seed": 0,
    "method": "qlora",
    "lora_rank": 2,
    "lora_alpha": 4,
    "lora_variant": "lora",
    "lora_dropout": 0.0,
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
FULL_ONLY = {"embedding_learning_rate_factor"}
CHANGED: dict[str, Any] = {
    "seed": 1,
    "method": "lora",
    "lora_rank": 4,
    "lora_alpha": 16,
    "lora_variant": "dora",
    "lora_dropout": 0.5,
    "target_modules": "retain",
    "learning_rate": 1e-2,
    "lr_schedule": "cosine",
    "warmup_fraction": 0.5,
    "decay_fraction": 0.6,
    "weight_decay": 10.0,
    "optimizer": "paged_adamw_8bit",
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
THREE_STEPS = {"max_tokens": 700}
# Saves an adapter, and is killed in the fourth step of a training: one start serves two tests.
KILLED = """
import os, signal, sys
from pathlib import Path
from lmadapt.models.loading import load_bf16
from lmadapt.training.adapters import add_lora, save_adapter
from lmadapt.training.progress import ProgressReport
from tests.stages.test_sft import run_sft

step_end = ProgressReport.on_step_end


def killed(self, args, state, control, **others):
    step_end(self, args, state, control, **others)
    if state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)


ProgressReport.on_step_end = killed
Path("saved").mkdir()
model = add_lora(load_bf16(Path(sys.argv[1])), rank=2, alpha=4, seed=0)
save_adapter(model, Path("saved"), base_name="pretrained")
run_sft(Path(sys.argv[1]), Path("killed"), lora_dropout=0.5, checkpoint_minutes=0.0)
"""


def run_sft(base: Path, folder: Path, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    instructions, replay = write_instructions(folder)
    return _sft(base, folder, instructions, replay, **changed)


def _sft(base: Path, folder: Path, instructions: Path, replay: Path, **changed: Any) -> Path:
    sft(
        SftParams(**PARAMS | changed),
        base=base,
        pristine=base,
        instructions=instructions,
        replay=replay,
        heldout=write_heldout(folder),
        adapter=folder / "adapter",
        curve=folder / "curve",
        metrics=folder / "sft.json",
    )
    return folder


@pytest.fixture(scope="module")
def plain(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        return run_sft(tiny_model, folder)


def test_the_stage_writes_an_adapter_that_changes_the_model(tiny_model: Path, plain: Path) -> None:
    base = load_nf4(tiny_model)
    ids = torch.arange(10, 40)[None]
    with torch.no_grad():
        before = base(ids).logits
        after = PeftModel.from_pretrained(base, plain / "adapter").eval()(ids).logits
    assert (after - before).abs().mean() > 1e-4
    assert all(
        tensor.any()
        for tensor in load_file(plain / "adapter" / "adapter_model.safetensors").values()
    )
    tokenizer = AutoTokenizer.from_pretrained(plain / "adapter")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(tiny_model).chat_template
    texts = [file.read_text() for file in (plain / "adapter").glob("*.json")] + [
        (plain / "sft.json").read_text()
    ]
    assert not any(str(tiny_model) in text or str(plain) in text for text in texts)


def test_the_metrics_say_what_was_trained(plain: Path) -> None:
    metrics = json.loads((plain / "sft.json").read_text())
    used = metrics["domain"]["loss_tokens_used"] + metrics["replay"]["loss_tokens_used"]
    assert metrics["loss_tokens"] == used
    assert metrics["replay"]["fraction_met"] == pytest.approx(0.1, abs=0.01)
    assert metrics["domain"]["epochs"] > 1
    assert metrics["skipped_too_long"] == {"domain": 0, "replay": 0}
    assert metrics["loss_last"] < metrics["loss_first"]


def test_a_second_run_elsewhere_gives_equal_files(
    tiny_model: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_sha256(run_sft(tiny_model, tmp_path / "again")) == folder_sha256(plain)


@pytest.fixture(scope="module")
def three_steps(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three_steps")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        return run_sft(tiny_model, folder, **THREE_STEPS)


@pytest.mark.parametrize("key", sorted({*SftParams.model_fields} - NEUTRAL - FULL_ONLY))
def test_every_key_changes_the_adapter(
    key: str, tiny_model: Path, three_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed = run_sft(tiny_model, tmp_path / "changed", **THREE_STEPS | {key: CHANGED[key]})
    hashes = [
        file_sha256(folder / "adapter" / "adapter_model.safetensors")
        for folder in (three_steps, changed)
    ]
    assert hashes[0] != hashes[1]


def test_full_fine_tuning_writes_a_model_that_replaces_the_base_in_evaluation(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"method": "full", "kl_weight": 0.0} | THREE_STEPS
    folders = [
        run_sft(
            tiny_model, tmp_path / str(factor), **options, embedding_learning_rate_factor=factor
        )
        / "adapter"
        for factor in (1.0, 0.1)
    ]
    models = [
        load_for_inference(tiny_model, precision="bf16", adapter=folder) for folder in folders
    ]
    base = load_for_inference(tiny_model, precision="bf16")
    moved = [
        (model.get_input_embeddings().weight - base.get_input_embeddings().weight).norm()
        for model in models
    ]
    assert moved[0] > 5 * moved[1] > 0
    assert not torch.equal(
        models[1].model.layers[0].mlp.up_proj.weight, base.model.layers[0].mlp.up_proj.weight
    )
    with pytest.raises(UserError, match=r"alpha_scale is 0.5, but .* is a whole model"):
        load_for_inference(tiny_model, precision="bf16", adapter=folders[0], alpha_scale=0.5)
    (tmp_path / "shipped").mkdir()
    with pytest.raises(UserError, match=r"sft.method: full trains no adapter; allowed: merged"):
        export_adapter(folders[0], tiny_model, tmp_path / "shipped", scale=1.0)
    export_merged(folders[0], tiny_model, tmp_path / "shipped", scale=1.0)
    assert torch.equal(load_bf16(tmp_path / "shipped").lm_head.weight, models[0].lm_head.weight)


def test_an_adapter_of_another_base_and_a_scaled_dora_adapter_are_refused(
    tiny_model: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = LlamaConfig(vocab_size=500, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match=r"adapter: not an adapter for the model in .*other"):
        load_for_inference(tmp_path / "other", precision="bf16", adapter=plain / "adapter")
    dora = run_sft(tiny_model, tmp_path / "dora", lora_variant="dora", **THREE_STEPS) / "adapter"
    load_for_inference(tiny_model, precision="nf4", adapter=dora)
    with pytest.raises(UserError, match="a DoRA adapter cannot be scaled"):
        load_for_inference(tiny_model, precision="nf4", adapter=dora, alpha_scale=0.5)


@pytest.mark.parametrize("key", SftParams.model_fields)
def test_every_key_changes_the_folder_of_the_checkpoints(key: str, tiny_model: Path) -> None:
    watched = {"heldout_every_steps": 2, "heldout_tokens": 60, "keep": "best", "patience": 3}
    watched |= {
        "retention_budget_bits_per_byte": 0.5,
        "checkpoint_minutes": 1.0,
        "activation_checkpointing": True,
    }
    watched |= {"accelerate_config": "two.yaml", "embedding_learning_rate_factor": 0.1}
    scored = PARAMS | {"heldout_every_steps": 1}
    before, after = (
        SftParams(**scored | changed) for changed in ({}, {key: (CHANGED | watched)[key]})
    )
    assert fingerprint(before, tiny_model, []) != fingerprint(after, tiny_model, [])


def test_scoring_held_out_text_changes_no_adapter_and_is_written_beside_the_curve(
    tiny_model: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watched = run_sft(tiny_model, tmp_path / "watched", heldout_every_steps=2, heldout_tokens=60)
    assert folder_sha256(watched / "adapter") == folder_sha256(plain / "adapter")
    assert (watched / "curve/loss.tsv").read_text() == (plain / "curve/loss.tsv").read_text()
    metrics = json.loads((watched / "sft.json").read_text())
    evaluated = (watched / "curve/heldout.tsv").read_text().splitlines()[1:]
    assert (
        len(evaluated)
        == len(metrics["heldout_bits_per_byte"])
        == 1 + math.ceil(metrics["steps"] / 2)
    )
    assert metrics["kept_step"] == metrics["steps"]
    ended = run_sft(
        tiny_model,
        tmp_path / "ended",
        heldout_every_steps=1,
        retention_budget_bits_per_byte=0.0,
        patience=1,
    )
    assert json.loads((ended / "sft.json").read_text())["steps"] < metrics["steps"]
    assert folder_sha256(ended / "adapter") != folder_sha256(plain / "adapter")


@pytest.fixture(scope="module")
def killed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a process with another hash seed saved an adapter and was killed."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny_model)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "PYTHONHASHSEED": "7"},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    return folder


def test_adapter_files_do_not_depend_on_the_hash_seed(
    tiny_model: Path, killed: Path, tmp_path: Path
) -> None:
    model = add_lora(load_bf16(tiny_model), rank=2, alpha=4, seed=0)
    save_adapter(model, tmp_path, base_name="pretrained")
    assert folder_sha256(tmp_path) == folder_sha256(killed / "saved")
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)


def test_a_killed_run_continues_to_the_same_adapter(
    tiny_model: Path, killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(killed)
    checkpoints = killed / ".lmadapt" / "checkpoints"
    assert len(list(checkpoints.glob("sft-*/checkpoint-3"))) == 1
    started: list[int] = []
    train_begin = ProgressReport.on_train_begin

    def noted(self: ProgressReport, args: Any, state: Any, control: Any, **others: Any) -> None:
        started.append(state.global_step)
        train_begin(self, args, state, control, **others)

    monkeypatch.setattr(ProgressReport, "on_train_begin", noted)
    again = run_sft(tiny_model, killed / "killed", lora_dropout=0.5, checkpoint_minutes=0.0)
    assert not list(checkpoints.iterdir())
    whole = run_sft(tiny_model, tmp_path / "whole", lora_dropout=0.5, checkpoint_minutes=0.0)
    assert started == [3, 0]
    assert folder_sha256(again) == folder_sha256(whole)


def test_long_and_unusable_instructions_are_left_out_and_counted(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    instructions, replay = write_instructions(tmp_path)
    rows = [instruction(n, f"What is weakness {n}?", "SQL injection") for n in range(9)]
    odd = {**rows[0], "id": "odd", "messages": rows[0]["messages"][:1]}
    long = instruction(9, "What is long? " * 99, "This")
    write_table([*rows, odd, long], INSTRUCTION, instructions)
    metrics = json.loads(
        (_sft(tiny_model, tmp_path, instructions, replay) / "sft.json").read_text()
    )
    assert (metrics["skipped_too_long"]["domain"], metrics["skipped_unusable"]["domain"]) == (1, 1)
