"""Training in several processes on the CPU (gloo), launched by accelerate as on several GPUs."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml
from accelerate.commands import launch as accelerate_launch
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from lmadapt.core.errors import UserError
from lmadapt.core.files import folder_sha256
from lmadapt.core.recipes import list_recipes, read_recipe
from lmadapt.core.stage_runner import run as run_as_program
from lmadapt.models.loading import load_bf16
from lmadapt.training import distributed
from lmadapt.training.train_stage import train_stage
from stages.pretrain import PretrainParams, pretrain
from stages.sft import sft
from tests.stages import test_pretrain, test_sft
from tests.tables import write_heldout, write_instructions, write_texts

TWO: dict[str, Any] = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_GPU",  # without GPUs, and with transformers' use_cpu: gloo
    "num_processes": 2,
    "num_machines": 1,
    "machine_rank": 0,
    "main_process_port": 0,
    "mixed_precision": "bf16",
    "use_cpu": False,
}
IN_PARTS = yaml.safe_load(
    (Path(__file__).parents[2] / "infra/accelerate/fsdp.yaml").read_text()
) | {"num_processes": 2}
ROOT = Path(__file__).parents[2]
PARAMS = {"pretrain": test_pretrain.PARAMS, "sft": test_sft.PARAMS}
STAGES = {"pretrain": pretrain, "sft": sft}


def make_options(
    folder: Path, stage: str, base: Path, config: dict[str, Any] | None, **changed: Any
) -> list[str]:
    """Options of the stage, once its data and settings are in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "devices.yaml").write_text(yaml.safe_dump(config))
    devices = {"accelerate_config": "devices.yaml" if config else None}
    (folder / "params.yaml").write_text(
        yaml.safe_dump({stage: {**PARAMS[stage], **devices, **changed}})
    )
    outputs = [
        "--curve",
        "curve",
        "--metrics",
        "metrics.json",
        "--heldout",
        str(write_heldout(folder)),
    ]
    if stage == "sft":
        domain, replay = write_instructions(folder)
        own = ["--instructions", str(domain), "--pristine", str(base), "--adapter", "out"]
    else:
        domain, replay = write_texts(folder)
        own = ["--corpus", str(domain), "--pretrained", "out"]
    return ["--base", str(base), "--replay", str(replay), *own, *outputs]


def run(
    folder: Path, stage: str, base: Path, config: dict[str, Any] | None, **changed: Any
) -> Path:
    """Run the stage's program from this process, so that only the launched ones start anew."""
    options = make_options(folder, stage, base, config, **changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PET_SIGNALS_TO_HANDLE", "")  # `launch` sets it; this restores it
        patch.setattr(sys, "argv", [stage, *options])
        if config is None:
            run_as_program(STAGES[stage])
        else:
            with pytest.raises(SystemExit) as ended:
                run_as_program(STAGES[stage])
            assert ended.value.code == 0
    return folder


def command(
    folder: Path, stage: str, base: Path, config: dict[str, Any] | None, **changed: Any
) -> list[str]:
    options = make_options(folder, stage, base, config, **changed)
    return [sys.executable, "-m", f"stages.{stage}", *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def curve(folder: Path, column: str) -> list[float]:
    with (folder / "curve/loss.tsv").open() as file:
        return [float(row[column] or "nan") for row in csv.DictReader(file, delimiter="\t")]


@pytest.mark.parametrize(  # 19 rows, 4 a step
    ("stage", "max_tokens"),
    [pytest.param("pretrain", 2300, marks=pytest.mark.faults), ("sft", 2100)],
)
def test_two_processes_have_the_loss_curve_of_one(
    stage: str, max_tokens: int, tiny_model: Path, tmp_path: Path
) -> None:
    options = {"batch_tokens": 512, "max_tokens": max_tokens, "heldout_every_steps": 2}
    one, two = (
        run(tmp_path / str(name), stage, tiny_model, config, **options)
        for name, config in ((1, None), (2, TWO))
    )
    assert len(curve(one, "loss")) == 5
    assert curve(two, "learning_rate") == curve(one, "learning_rate")
    for column in ("loss", "domain", "replay", "gradient_norm"):
        assert curve(two, column) == pytest.approx(curve(one, column), abs=1e-3, nan_ok=True), (
            column
        )
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, two)]
    assert metrics[0]["tokens"] == metrics[1]["tokens"]
    assert metrics[0]["loss_tokens"] == metrics[1]["loss_tokens"]
    for first, second in zip(*(each["heldout_bits_per_byte"] for each in metrics), strict=True):
        assert second["heldout_domain"] == pytest.approx(first["heldout_domain"], abs=1e-3)


@pytest.mark.parametrize(  # full: weights go round in bf16
    ("method", "within"), [pytest.param("full", 5e-3, marks=pytest.mark.faults), ("lora", 1e-3)]
)
def test_a_model_in_parts_is_trained_as_a_whole_one_and_written_whole(
    method: str, within: float, tiny_model: Path, tmp_path: Path
) -> None:
    options = {"method": method, "kl_weight": 0.0, "ewc_weight": 0.0, "max_tokens": 1500}
    one, two = (
        run(tmp_path / str(name), "pretrain", tiny_model, config, **options)
        for name, config in ((1, None), (2, IN_PARTS))
    )
    assert curve(two, "loss") == pytest.approx(curve(one, "loss"), abs=within)
    models = [load_bf16(folder / "out") for folder in (one, two)]
    base, tensors = load_bf16(tiny_model).state_dict(), models[1].state_dict()
    assert all(tensor.shape == base[name].shape for name, tensor in tensors.items())
    trained = "model.layers.1.mlp.up_proj.weight"
    assert not torch.equal(tensors[trained], base[trained])
    ids = torch.arange(10, 40)[None]
    with torch.no_grad():
        logits = [model(ids).logits.float() for model in models]
    assert (logits[0] - logits[1]).abs().mean() < 0.01


@pytest.mark.faults
def test_an_adapter_over_a_model_in_parts_is_written_whole(
    tiny_model: Path, tmp_path: Path
) -> None:
    options = {"kl_weight": 0.0, "ewc_weight": 0.0}
    one, two = (
        run(tmp_path / str(name), "sft", tiny_model, config, **options)
        for name, config in ((1, None), (2, IN_PARTS))
    )
    assert curve(two, "loss") == pytest.approx(curve(one, "loss"), abs=1e-3)
    first, second = (load_file(folder / "out/adapter_model.safetensors") for folder in (one, two))
    assert first.keys() == second.keys()
    assert all((first[name] - second[name]).abs().max() < 5e-3 for name in first)


REFUSED = [
    (IN_PARTS, {}, r"pretrain\.kl_weight needs the whole model on each device"),
    (
        TWO,
        {"batch_tokens": 384, "max_sequence_tokens": 128},
        "batch_tokens: 3 rows of max_sequence_tokens a step cannot be shared by 2 processes",
    ),
]


@pytest.mark.parametrize(("config", "changed", "message"), REFUSED)
def test_settings_that_the_devices_cannot_follow_are_refused_before_a_process_starts(
    config: dict[str, Any],
    changed: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributed, "_launch", lambda words: pytest.fail(f"launched: {words}"))
    (tmp_path / "devices.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=message):
        distributed.launch("pretrain", pretrain_params(tmp_path / "devices.yaml", **changed))


@pytest.mark.parametrize(("config", "changed", "message"), REFUSED)
def test_processes_that_the_user_launched_refuse_the_same_settings(
    config: dict[str, Any],
    changed: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(config["num_processes"]))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(config is IN_PARTS).lower())
    params = pretrain_params(tmp_path / "devices.yaml", **changed)
    with pytest.raises(UserError, match=message):
        train_stage("pretrain", params, model=None, rows=[], base=tmp_path)


def test_a_missing_config_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "devices.yaml"
    with pytest.raises(
        UserError, match=rf"pretrain\.accelerate_config: no such file: {re.escape(str(missing))}"
    ):
        distributed.launch("pretrain", pretrain_params(missing))


@pytest.mark.parametrize(("of_process", "of_command"), [(1, 1), (75, 75), (-15, 143)])
def test_the_command_exits_with_the_code_of_the_process_that_failed_first(
    of_process: int, of_command: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = ProcessFailure(local_rank=1, pid=0, exitcode=of_process, error_file="<N/A>")
    errors = [
        ChildFailedError("stage", {1: failed}),  # of several processes
        subprocess.CalledProcessError(of_process, "stage"),  # of one
    ]
    for error in errors:
        monkeypatch.setattr(accelerate_launch, "launch_command", Mock(side_effect=error))
        config = ROOT / "infra/accelerate/ddp.yaml"
        words = ["--config_file", str(config), "--module", "stages.sft"]
        assert distributed._launch(words) == of_command


def pretrain_params(config: Path, **changed: Any) -> PretrainParams:
    return PretrainParams(**PARAMS["pretrain"] | {"accelerate_config": str(config)} | changed)


@pytest.mark.faults
@pytest.mark.parametrize("config", [TWO, IN_PARTS], ids=["whole models", "in parts"])
def test_after_a_signal_all_processes_keep_a_checkpoint_and_continue_from_it(
    config: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    anchors = {"kl_weight": 0.0, "ewc_weight": 0.0} if config is IN_PARTS else {}
    options = {"max_tokens": 4000, "batch_tokens": 256, "lora_dropout": 0.3, **anchors}
    whole = run(tmp_path / "whole", "sft", tiny_model, config, **options)
    words = command(tmp_path / "told", "sft", tiny_model, config, **options, checkpoint_minutes=0.0)
    checkpoints = tmp_path / "told/.lmadapt/checkpoints"
    with subprocess.Popen(
        words, cwd=tmp_path / "told", env=environment(), stderr=subprocess.PIPE, text=True
    ) as told:
        while told.poll() is None and not [*checkpoints.glob("sft-*/checkpoint-*")]:
            time.sleep(0.05)
        told.send_signal(signal.SIGTERM)
        _, said = told.communicate()
    assert told.returncode == 75, said
    assert "a signal stopped training after step" in said
    (kept,) = checkpoints.glob("sft-*/checkpoint-*")
    assert {file.name for file in kept.glob("rng_state_*.pth")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }
    assert not (tmp_path / "told/out").exists()
    again = run(tmp_path / "told", "sft", tiny_model, config, **options, checkpoint_minutes=0.0)
    assert folder_sha256(again / "out") == folder_sha256(whole / "out")
    assert curve(again, "loss") == curve(whole, "loss")
    assert not [*checkpoints.glob("*")]


@pytest.mark.parametrize(
    "file", sorted((ROOT / "infra/accelerate").glob("*.yaml")), ids=lambda file: file.stem
)
def test_accelerate_reads_each_config_and_launches_with_it(file: Path) -> None:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    config = load_config_from_file(str(file))
    assert isinstance(config, ClusterConfig)
    words = ["--config_file", str(file), "--module", "stages.sft"]
    launched, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert launched.num_processes == config.num_processes
    assert launched.mixed_precision == "bf16"
    assert (launched.multi_gpu, launched.use_fsdp) == (file.stem == "ddp", file.stem == "fsdp")
    if launched.use_fsdp:
        assert launched.fsdp_version == 2
        assert launched.fsdp_cpu_ram_efficient_loading is True
        assert launched.fsdp_state_dict_type == "FULL_STATE_DICT"


def test_recipes_name_configs_whose_processes_can_share_a_step() -> None:
    named = 0
    for recipe in list_recipes(ROOT / "recipes"):
        for stage in PARAMS:
            params = read_recipe(recipe, ROOT / "recipes")[stage]
            if params["accelerate_config"]:
                count = yaml.safe_load((ROOT / params["accelerate_config"]).read_text())[
                    "num_processes"
                ]
                assert params["batch_tokens"] // params["max_sequence_tokens"] % count == 0, recipe
                named += 1
    assert named == 2
