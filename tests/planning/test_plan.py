import importlib
import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import pytest

from lmadapt.core import stage_runner
from lmadapt.core.errors import UserError
from lmadapt.core.files import write_json
from lmadapt.core.recipes import list_recipes, read_recipe
from lmadapt.core.sections import read_params
from lmadapt.core.stage_runner import recorded_memory
from lmadapt.planning import memory_model
from lmadapt.planning.devices import named_device, planning_device
from lmadapt.planning.memory_model import (
    PARTS,
    Setting,
    read_shape,
    step_memory,
    total,
    trainable_parameters,
    training_flops,
)
from lmadapt.planning.plan import (
    PlannedStage,
    check_memory,
    fitting_rows,
    plan_params,
    plan_stage,
)
from lmadapt.training import labelled_head

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = json.loads((ROOT / "recipes/configs/Qwen--Qwen3-8B-Base.json").read_text())
SHAPE = read_shape(CONFIG, "test")
STAGE = {
    "method": "qlora",
    "lora_rank": 16,
    "max_tokens": 4_000_000,
    "max_sequence_tokens": 1024,
    "batch_tokens": 16384,
    "micro_batch_rows": "auto",
    "optimizer": "auto",
    "activation_checkpointing": "auto",
}


def stage_plan(device: str = "24GB", **changes: Any) -> Any:
    return plan_stage(
        "sft", PlannedStage(**{**STAGE, **changes}), CONFIG, "test", named_device(device)
    )


@pytest.fixture(autouse=True)
def in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", "/nowhere")  # no nvidia-smi


def test_every_recipe_fits_the_gpu_it_names_and_not_a_tenth_of_its_memory() -> None:
    checked = 0
    for recipe in list_recipes(ROOT / "recipes"):
        device, params = planning_device(recipe), read_recipe(recipe, ROOT / "recipes")
        for plan in plan_params(params, recipe, device, fetched=False):
            assert plan.verdict == "fits", (recipe, plan.stage, total(plan.parts))
            assert tuple(plan.parts) == PARTS
            checked += 1
        small = replace(device, memory=min(device.memory, 20e9) / 10)
        assert all(
            p.verdict == "too large" for p in plan_params(params, recipe, small, fetched=False)
        )
    assert checked == 2 * len(list_recipes(ROOT / "recipes")) >= 8


def test_the_plan_is_for_the_gpu_in_the_name_of_the_recipe() -> None:
    assert (planning_device("70b-8x80gb").count, planning_device("8b-24gb").count) == (8, 1)
    assert not planning_device("demo-cpu").cuda
    assert not planning_device(None).cuda


def test_the_shape_counts_the_parameters_of_the_model_transformers_makes(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from tests.tiny import make_tiny_model

    for family in ("gemma3", "llama"):
        folder = make_tiny_model(tmp_path / family, family=family)
        model = AutoModelForCausalLM.from_pretrained(folder)
        shape = read_shape(json.loads((folder / "config.json").read_text()), "tiny")
        counted = shape.linear_parameters + shape.embedding_parameters
        norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
        assert counted == sum(p.numel() for p in model.parameters()) - norms


def test_the_adapter_has_the_parameters_peft_makes(tmp_path: Path) -> None:
    from lmadapt.models.loading import load_bf16
    from lmadapt.training.adapters import add_lora
    from tests.tiny import make_tiny_model

    folder = make_tiny_model(tmp_path / "model")
    shape = read_shape(json.loads((folder / "config.json").read_text()), "tiny")
    for targets, adapted in (("all-linear", ("attention", "mlp")), ("retain", ("mlp",))):
        model = add_lora(load_bf16(folder), rank=4, alpha=8, seed=0, targets=targets)
        expected = trainable_parameters(shape, Setting(row_tokens=8, lora_rank=4, adapted=adapted))
        assert expected == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_the_plan_uses_the_chunk_of_the_labelled_head() -> None:
    assert memory_model.CHUNK_ELEMENTS == labelled_head.CHUNK_ELEMENTS


def test_each_change_of_a_setting_moves_the_part_it_should() -> None:
    base = Setting(row_tokens=1024, lora_rank=16, nf4=True, checkpointing=True)
    expected = {name: part[1] for name, part in step_memory(SHAPE, base).items()}
    for change, part, sign in (
        ({"rows": 2}, "activations", 1),
        ({"row_tokens": 512}, "activations", -1),
        ({"checkpointing": False}, "activations", 1),
        ({"lora_rank": 64}, "optimizer", 1),
        ({"adapted": ("mlp",)}, "gradients", -1),
        ({"nf4": False}, "quantisation", -1),
        ({"nf4": False}, "weights", 1),
        ({"optimizer_bytes": 2}, "optimizer", -1),
        ({"labelled": 0.001}, "logits", -1),
        ({"labelled_head": False}, "logits", 1),
        ({"gpus": 8}, "weights", -1),
    ):
        after = step_memory(SHAPE, replace(base, **change))[part][1]  # type: ignore[arg-type]
        assert (after - expected[part]) * sign > 0, (change, part)


def test_full_training_takes_the_operations_of_kaplan_and_lora_two_thirds_of_them() -> None:
    parameters = SHAPE.linear_parameters + SHAPE.vocabulary * SHAPE.hidden
    full = training_flops(SHAPE, Setting(row_tokens=1))
    assert full == pytest.approx(6 * parameters, rel=0.001)
    assert training_flops(SHAPE, Setting(row_tokens=1, lora_rank=8)) == pytest.approx(full * 2 / 3)


def test_the_micro_batch_is_the_largest_that_fits_and_keeps_the_batch_whole() -> None:
    plan = stage_plan()
    assert plan.setting.rows * plan.accumulation == 16
    assert plan.setting.rows > 1
    assert plan.verdict == "fits"
    smaller = stage_plan("12GB").setting.rows
    assert 1 <= smaller < plan.setting.rows
    assert stage_plan(micro_batch_rows=2).setting.rows == 2
    assert fitting_rows(SHAPE, plan.setting, 16, 0) == 1


def test_a_plan_that_does_not_fit_lists_changes_until_it_does() -> None:
    for name, changes in (
        ("8GB", {}),
        ("24GB", {"method": "full"}),
        ("16GB", {"max_sequence_tokens": 16384}),
    ):
        plan = stage_plan(name, **changes)
        assert plan.verdict == "too large"
        sizes = [size for _, size in plan.remedies]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] <= plan.device.memory
        assert all(size > plan.device.memory for size in sizes[:-1])
    texts = [text for text, _ in stage_plan("24GB", method="full", micro_batch_rows=4).remedies]
    order = ["micro_batch_rows: 1", "max_sequence_tokens: 512", "method: lora"]
    assert [texts.index(text) for text in order] == sorted(texts.index(text) for text in order)


def test_changes_are_proposed_for_keys_of_the_stage_only() -> None:
    stage = {
        key: value
        for key, value in STAGE.items()
        if key in ("lora_rank", "max_tokens", "batch_tokens")
    }
    params = PlannedStage(**stage, max_sequence_tokens=4096)
    plan = plan_stage("sft", params, CONFIG, "test", replace(named_device("cpu"), memory=1e9))
    assert {text.partition(":")[0] for text, _ in plan.remedies} == {
        "max_sequence_tokens",
        "lora_rank",
        "a smaller model, or devices with more memory",
    }


def test_more_gpus_share_weights_and_take_less_time() -> None:
    one, eight = stage_plan("80GB"), stage_plan("8x80GB")
    assert eight.parts["weights"][1] == pytest.approx(one.parts["weights"][1] / 8)
    assert eight.seconds[1] == pytest.approx(one.seconds[1] / 8)


@pytest.mark.parametrize(
    ("name", "count", "cuda"),
    [("24GB", 1, True), ("8x80gb", 8, True), ("2xRTX4090", 2, True), ("cpu", 1, False)],
)
def test_a_device_is_found_by_its_name(name: str, count: int, cuda: bool) -> None:
    device = named_device(name)
    assert (device.count, device.cuda) == (count, cuda)


@pytest.mark.parametrize("name", ["gtx480", "0x24GB", "24", "x", ""])
def test_the_error_for_an_unknown_gpu_names_what_is_allowed(name: str) -> None:
    with pytest.raises(UserError, match=r"--gpu: .* is not known; allowed: .*8x80GB.*l40s"):
        named_device(name)


def test_a_gpu_found_by_nvidia_smi_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'NVIDIA A100-SXM4-80GB, 81920'\necho 'NVIDIA A100-SXM4-80GB, 81920'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    device = planning_device("8b-24gb")
    assert (device.count, device.cuda) == (2, True)
    assert device.memory == pytest.approx(80 * 2**30, rel=0.03)
    assert device.flops[2] == pytest.approx(0.45 * 312e12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"num_experts": 64}, "mixture of experts"),
    ],
)
def test_the_error_names_a_config_that_cannot_be_planned(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=rf"models/base/config.json: .*{message}"):
        read_shape(CONFIG | change, "models/base/config.json")


def test_a_batch_of_less_than_a_row_is_an_error() -> None:
    with pytest.raises(UserError, match="batch_tokens is 512, less than one row"):
        stage_plan(batch_tokens=512)


def test_the_keys_the_plan_reads_are_keys_of_the_stages() -> None:
    for name in ("pretrain", "sft"):
        kind = inspect.signature(
            getattr(importlib.import_module(f"stages.{name}"), name)
        ).parameters["params"]
        read = set(PlannedStage.model_fields) & set(kind.annotation.model_fields)
        assert {"lora_rank", "max_tokens", "max_sequence_tokens", "batch_tokens"} <= read
        assert read <= set(read_params(ROOT / "params.yaml")[name])


def test_the_command_takes_under_three_cpu_seconds_without_torch_weights_and_network(
    tmp_path: Path,
) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    program = """
import sys
from lmadapt.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit:
    assert not {"torch", "huggingface_hub"} & set(sys.modules)
    raise
"""
    before = _cpu_seconds_of_children()
    done = subprocess.run(
        [sys.executable, "-c", program, "plan", "--recipe", "70b-8x80gb"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert _cpu_seconds_of_children() - before < 3
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("fits") == 2
    assert "on 8 GPUs" in done.stdout


def _cpu_seconds_of_children() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_plan_too_large_exits_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from lmadapt.cli.app import app

    done = CliRunner().invoke(app, ["plan", "--recipe", "8b-80gb", "--gpu", "8GB"])
    assert done.exit_code == 1
    assert "too large: change, in this order" in done.stdout
    unknown = CliRunner().invoke(app, ["plan", "--recipe", "8b"])
    assert unknown.exit_code == 1


def test_a_training_that_cannot_fit_stops_before_it_loads_a_model_and_others_leave_their_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 4000}))
    params = PlannedStage(**STAGE)
    with pytest.raises(
        UserError, match=r"sft needs .* GB, and CPU .* there is no GPU; `lmadapt plan` says"
    ):
        check_memory("sft", params, tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps(CONFIG | {"num_hidden_layers": 1, "vocab_size": 1000})
    )
    check_memory("sft", params, tmp_path)
    low, expected, high = json.loads((tmp_path / ".lmadapt/runs/sft.plan.json").read_text())
    assert 0 < low < expected < high


def test_planned_and_measured_memory_belong_to_the_run_that_wrote_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = tmp_path / "metrics/sft.json"
    write_json(metrics, {"steps": 1})
    write_json(Path(".lmadapt/runs/sft.plan.json"), [1, 2, 3])
    assert recorded_memory(metrics.parent) == []
    stage_runner._record_run("sft", 1.0, metrics)
    (row,) = recorded_memory(metrics.parent)
    assert (row["stage"], row["planned"]) == ("sft", [1, 2, 3])
    assert row["measured"] > 50e6
    write_json(metrics, {"steps": 2})
    assert recorded_memory(metrics.parent) == []
