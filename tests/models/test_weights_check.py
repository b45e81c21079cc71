"""What the headers of a model's files show before any weight is read."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lmadapt.core.errors import UserError
from lmadapt.models.base_model import copy_model
from lmadapt.models.weights_check import load_outline, read_shapes, weight_files
from tests.tiny import make_tiny_tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2471645608\n"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPE = {
    "vocab_size": 500,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SHAPE),
    "llama, tied": lambda: transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "gemma 2": lambda: transformers.Gemma2Config(**SHAPE),
    "gemma 3 text": lambda: transformers.Gemma3TextConfig(**SHAPE),
    "gemma 3": lambda: transformers.Gemma3Config(
        text_config=SHAPE, vision_config=VISION, mm_tokens_per_image=4
    ),
    "qwen 2": lambda: transformers.Qwen2Config(**SHAPE),
    "qwen 3": lambda: transformers.Qwen3Config(**SHAPE),
    "qwen 3 moe": lambda: transformers.Qwen3MoeConfig(**SHAPE, **EXPERTS),
    "mistral": lambda: transformers.MistralConfig(**SHAPE),
    "mixtral": lambda: transformers.MixtralConfig(**SHAPE, num_local_experts=4),
    "phi 3": lambda: transformers.Phi3Config(**SHAPE),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**SHAPE),
    "olmo 2": lambda: transformers.Olmo2Config(**SHAPE),
    "granite": lambda: transformers.GraniteConfig(**SHAPE),
}


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def rename(folder: Path, name: Callable[[str], str]) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name(key): tensor for key, tensor in weights.items()}, folder / "model.safetensors")


def refused(folder: Path, target: Path) -> str:
    with pytest.raises(UserError, match=r"^fetch\.model\.name_or_path: ") as error:
        copy_model(
            str(folder),
            revision=None,
            chat_template="auto",
            trust_remote_code=False,
            target=target,
        )
    assert not target.exists()
    return str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sound_checkpoint_is_accepted_and_one_without_a_tensor_is_refused(
    family: str, tmp_path: Path
) -> None:
    config = FAMILIES[family]()
    network = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    network.save_pretrained(tmp_path)
    outline = load_outline(tmp_path, weight_files(tmp_path), trust_remote_code=False)
    assert {tensor.device.type for tensor in outline.parameters()} == {"meta"}
    assert len(outline.get_input_embeddings().weight) == 500
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in sorted(weights, reverse=True) if "layers.1." in name)
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"^model\.safetensors: |tensors in model\.safetensors"):
        load_outline(tmp_path, weight_files(tmp_path), trust_remote_code=False)


def test_old_names_of_experts_and_of_buffers_are_accepted(tmp_path: Path) -> None:
    network = transformers.AutoModelForCausalLM.from_config(FAMILIES["mixtral"]())
    network.save_pretrained(tmp_path)
    shapes = read_shapes(tmp_path / "model.safetensors")
    assert shapes["model.layers.0.block_sparse_moe.experts.3.w1.weight"] == (48, 32)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    save_file(weights, tmp_path / "model.safetensors")
    load_outline(tmp_path, weight_files(tmp_path), trust_remote_code=False)


@pytest.mark.parametrize(
    ("prefix", "origin"),
    [
        ("_orig_mod.", "torch.compile"),
        ("module.", "DistributedDataParallel"),
        ("base_model.model.", "PEFT"),
    ],
)
def test_names_that_a_wrapper_gave_are_refused_with_the_wrapper(
    prefix: str, origin: str, model: Path, tmp_path: Path
) -> None:
    rename(model, lambda name: prefix + name)
    message = refused(model, tmp_path / "base")
    assert (
        "model.safetensors: the model's tensors model.embed_tokens.weight (500 x 64), " in message
    )
    assert f"the model has no tensors {prefix}model.embed_tokens.weight, " in message
    assert f"The prefix {prefix} comes from {origin}" in message


def test_a_missing_tensor_and_one_of_another_shape_are_named(model: Path, tmp_path: Path) -> None:
    whole = load_file(model / "model.safetensors")
    norm = "model.layers.1.input_layernorm.weight"
    save_file({n: t for n, t in whole.items() if n != norm}, model / "model.safetensors")
    assert f"the model's tensors {norm} (64) are missing" in refused(model, tmp_path / "base")
    save_file(whole | {norm: torch.zeros(63)}, model / "model.safetensors")
    message = refused(model, tmp_path / "base")
    assert f"tensor {norm} has the shape 63, and config.json asks for 64" in message


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs_is_not_the_file(name: str, model: Path, tmp_path: Path) -> None:
    (model / name).write_text(POINTER)
    message = refused(model, tmp_path / "base")
    assert f"{name} is a Git LFS pointer of {len(POINTER)} bytes" in message
    assert "`git lfs pull`" in message


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_file_cut_short_is_refused_by_name(
    name: str, kept: float, model: Path, tmp_path: Path
) -> None:
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[: int(len(content) * kept)])
    message = refused(model, tmp_path / "base")
    assert f": {name} " in message
    assert "cut short" in message or "not a safetensors file" in message


def test_weights_under_a_name_that_transformers_does_not_read_are_refused(
    model: Path, tmp_path: Path
) -> None:
    (model / "model.safetensors").rename(model / "weights.safetensors")
    message = refused(model, tmp_path / "base")
    assert "neither model.safetensors nor model.safetensors.index.json" in message
    assert "present: weights.safetensors" in message


def test_an_index_without_its_map_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    (model / "model.safetensors.index.json").write_text('{"metadata": {}}')
    message = refused(model, tmp_path / "base")
    assert "model.safetensors.index.json has no weight_map from tensors to files" in message


def test_a_token_of_the_template_beyond_the_embeddings_is_refused(
    model: Path, tmp_path: Path
) -> None:
    tokenizer = make_tiny_tokenizer()
    reserved = [f"<|reserved_{number}|>" for number in range(len(tokenizer), 500)]
    tokenizer.add_special_tokens({"additional_special_tokens": [*reserved, "<|im_start|>"]})
    tokenizer.add_special_tokens({"pad_token": "<|image|>"})
    tokenizer.save_pretrained(model)
    copy_model(
        str(model),
        revision=None,
        chat_template="plain",
        trust_remote_code=False,
        target=tmp_path / "base",
    )
    shutil.rmtree(tmp_path / "base")
    (model / "chat_template.jinja").write_text(CHATML)
    message = refused(model, tmp_path / "base")
    assert "the tokenizer's token <|im_start|> (500) has no row in the embeddings" in message
    assert "which have 500 (ids 0 to 499)" in message
