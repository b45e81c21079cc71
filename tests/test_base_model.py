import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lmadapt.base_model import convert_gguf, copy_model, weights_sha256
from lmadapt.chat import PLAIN_TEMPLATE, encode_conversation
from lmadapt.errors import Unavailable, UserError
from lmadapt.files import file_sha256, folder_sha256

TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab", "▁ab"]
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_gguf(file: Path) -> dict[str, np.ndarray]:
    """A one-layer Llama of width 32 in GGUF, its matrices in Q8_0; returns what the quantised tensors stand for."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-float(index) for index in range(len(TOKENS))])
    writer.add_token_types([2, 3, 3, *([6] * 256), *([1] * 6)])
    for kind, token in (("unk", 0), ("bos", 1), ("eos", 2)):
        getattr(writer, f"add_{kind}_token_id")(token)
    random = np.random.default_rng(0)
    shapes = {"token_embd": (len(TOKENS), 32), "output": (len(TOKENS), 32), "blk.0.ffn_gate": (64, 32)}
    shapes |= {"blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
    shapes |= {f"blk.0.attn_{part}": (32, 32) for part in ("q", "k", "v", "output")}
    weights = {}
    for name, shape in shapes.items():
        packed = gguf.quantize(random.normal(size=shape).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
        weights[name] = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def make_parts(folder: Path) -> tuple[list[Path], dict[str, np.ndarray], str]:
    weights = write_gguf(folder / "whole")
    content = (folder / "whole").read_bytes()
    parts = []
    for number, part in enumerate((content[:5000], content[5000:])):
        parts.append(folder / f"package{number}")
        (parts[-1] / "data").mkdir(parents=True)
        (parts[-1] / "data" / f"tiny.gguf.part{number}").write_bytes(part)
    return parts, weights, hashlib.sha256(content).hexdigest()


def test_gguf_parts_become_a_bf16_model_with_tokenizer_and_template(tmp_path: Path) -> None:
    parts, weights, sha256 = make_parts(tmp_path)
    for target in ("base", "again"):
        convert_gguf("tiny.gguf", parts, sha256=sha256, chat_template="auto", target=tmp_path / target)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", use_safetensors=True)
    down = model.get_parameter("model.layers.0.mlp.down_proj.weight")
    assert down.dtype == torch.bfloat16
    assert torch.equal(down, torch.from_numpy(weights["blk.0.ffn_down"]).bfloat16())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer.chat_template == PLAIN_TEMPLATE
    assert tokenizer.decode(tokenizer("ab ab", add_special_tokens=False)["input_ids"]) == "ab ab"
    assert "quantization_config" not in json.loads((tmp_path / "base/config.json").read_text())
    assert folder_sha256(tmp_path / "base") == folder_sha256(tmp_path / "again")
    assert not any(str(tmp_path).encode() in file.read_bytes() for file in (tmp_path / "base").iterdir())


def test_gguf_parts_must_be_there_whole_and_readable(tmp_path: Path) -> None:
    parts, _, sha256 = make_parts(tmp_path)
    settings: dict[str, Any] = {"chat_template": "auto", "target": tmp_path / "base"}
    with pytest.raises(UserError, match=f"tiny.gguf: expected {sha256}, got"):
        convert_gguf("tiny.gguf", parts[::-1], sha256=sha256, **settings)
    with pytest.raises(UserError, match=r"tiny.gguf is no GGUF file transformers can read"):
        convert_gguf("tiny.gguf", parts[::-1], sha256=None, **settings)
    with pytest.raises(UserError, match=r"package0 holds 0 files named other.gguf\*, expected one"):
        convert_gguf("other.gguf", parts, sha256=None, **settings)
    assert not (tmp_path / "base").exists()


def copy(source: Path | str, target: Path, **settings: Any) -> None:
    options: dict[str, Any] = {"revision": None, "chat_template": "auto", "trust_remote_code": False}
    copy_model(str(source), **{**options, **settings}, target=target)


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def template_of(folder: Path) -> str:
    return str(AutoTokenizer.from_pretrained(folder).chat_template)


def test_a_folder_is_copied_without_what_does_not_belong_to_a_model(model: Path, tmp_path: Path) -> None:
    for name in ("optimizer.pt", "README.md", "modeling.py", "consolidated.safetensors"):
        (model / name).write_text("x")
    copy(model, tmp_path / "base")
    copied = {file.name for file in (tmp_path / "base").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= copied
    assert not copied & {"optimizer.pt", "README.md", "modeling.py", "consolidated.safetensors"}
    sha256 = {"model.safetensors": file_sha256(model / "model.safetensors")}
    assert weights_sha256(tmp_path / "base") == sha256
    copy(model, tmp_path / "base", trust_remote_code=True)
    assert (tmp_path / "base/modeling.py").is_file()


def test_the_template_is_the_models_own_or_plain_or_a_file(model: Path, tmp_path: Path) -> None:
    (model / "chat_template.jinja").write_text(CHATML)
    (tmp_path / "mine.jinja").write_text(CHATML.replace("<|", "["))
    for setting, expected in (
        ("auto", CHATML),
        ("plain", PLAIN_TEMPLATE),
        (str(tmp_path / "mine.jinja"), CHATML.replace("<|", "[")),
    ):
        copy(model, tmp_path / "base", chat_template=setting)
        assert template_of(tmp_path / "base") == expected
    (model / "chat_template.jinja").unlink()
    copy(model, tmp_path / "base")
    assert template_of(tmp_path / "base") == PLAIN_TEMPLATE


def test_a_plain_template_overrides_one_in_the_tokenizer_configuration(model: Path, tmp_path: Path) -> None:
    (model / "chat_template.jinja").unlink()
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": CHATML}))
    copy(model, tmp_path / "auto")
    copy(model, tmp_path / "plain", chat_template="plain")
    assert (template_of(tmp_path / "auto"), template_of(tmp_path / "plain")) == (CHATML, PLAIN_TEMPLATE)
    assert encode_conversation(
        AutoTokenizer.from_pretrained(tmp_path / "plain"),
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    ).loss_tokens


def test_a_model_whose_template_rewrites_earlier_turns_needs_another(model: Path, tmp_path: Path) -> None:
    (model / "chat_template.jinja").write_text("{% for m in messages[-2:] %}{{ m['content'] }}{% endfor %}")
    with pytest.raises(UserError, match=r"cannot train on several turns: it .*`fetch.model.chat_template: plain`"):
        copy(model, tmp_path / "base")
    copy(model, tmp_path / "base", chat_template="plain")
    assert template_of(tmp_path / "base") == PLAIN_TEMPLATE


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}", "cannot render a two-turn conversation"),
        ("{{ messages[0].content.nothing() }}", "cannot render a two-turn conversation"),
        (PLAIN_TEMPLATE.replace("'Question: ' + message['content']", "'Question'"), "leaves out 'First question"),
        (None, "No such file or directory; allowed: auto, plain"),
    ],
)
def test_a_template_file_that_cannot_serve_is_refused(
    template: str | None, message: str, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.jinja"
    if template is not None:
        file.write_text(template)
    with pytest.raises(UserError, match=message) as error:
        copy(model, tmp_path / "base", chat_template=str(file))
    assert str(file) in str(error.value)
    assert not (tmp_path / "base").exists()


def test_folders_that_are_no_usable_model_are_refused(model: Path, tmp_path: Path) -> None:
    def refused(message: str, **settings: Any) -> None:
        with pytest.raises(UserError, match=message) as error:
            copy(model, tmp_path / "base", **settings)
        assert "model" in str(error.value)

    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    refused("quantised already")
    (model / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "configuration.Mine"}}))
    refused("trust_remote_code: .* runs code of its own")
    (model / "config.json").write_text(json.dumps(config))
    index = model / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}')
    refused(r"model-2.safetensors is missing")
    index.unlink()
    (model / "tokenizer.json").unlink()
    refused("no usable tokenizer")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    refused(r"only pickled weights \(pytorch_model.bin\)")
    (model / "pytorch_model.bin").unlink()
    refused("no weights; safetensors are needed")
    (model / "config.json").unlink()
    refused("config.json is missing")


def test_an_unknown_model_says_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'no/such/folder' is no model; allowed: a hub model id .* an existing folder"):
        copy("no/such/folder", tmp_path / "base")
    with pytest.raises(
        UserError, match=r"name_or_path: there is no folder 'acme/tiny'; if .*revision must be the commit to pin"
    ):
        copy("acme/tiny", tmp_path / "base")


def test_a_hub_that_cannot_be_asked_can_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="'acme/tiny' is no folder here") as error:
        copy("acme/tiny", tmp_path / "base", revision="main")
    assert error.value.exit_code == 75


def test_a_pinned_hub_model_is_taken_from_the_hubs_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0" * 40
    snapshot = tmp_path / "hub/models--acme--tiny/snapshots" / commit
    shutil.copytree(model, snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    copy("acme/tiny", tmp_path / "base", revision=commit)
    assert weights_sha256(tmp_path / "base") == weights_sha256(model)
    assert AutoConfig.from_pretrained(tmp_path / "base").model_type == "gemma3_text"
