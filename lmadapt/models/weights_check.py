"""Checks a model's files, tensors and token ids from file headers alone; no weight is read."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from lmadapt.core.errors import UserError
from lmadapt.models.chat import encode_conversation, end_of_turn

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LENGTH_BYTES = 8  # a safetensors file starts with the length of its header, little-endian
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "module.": "DistributedDataParallel",
    "base_model.model.": "PEFT",
}
NAMED = 3  # so many tensors or tokens does a message name

Shape = tuple[int, ...]

log = logging.getLogger(__name__)
transformers_logging.disable_progress_bar()


def file_problem(file: Path) -> str:
    """What makes a file of a model folder unusable; "" when nothing does."""
    with file.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            return (
                f"{file.name} is a Git LFS pointer of {file.stat().st_size} bytes, not the file "
                "that it stands for; run `git lfs pull` in the folder"
            )
    try:
        if file.suffix == ".json":
            json.loads(file.read_bytes())
        elif file.suffix == ".safetensors":
            read_shapes(file)
    except UserError as error:
        return str(error)
    except ValueError as error:  # of JSON or of UTF-8
        return f"{file.name} is not JSON, perhaps because it was cut short: {error}"
    return ""


def read_shapes(file: Path) -> dict[str, Shape]:
    """The shape of each tensor in a safetensors file, by name, from the file's header.

    Raises UserError when the file is cut short or is not a safetensors file. Source of the
    format: huggingface.co/docs/safetensors.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES + length:
            raise UserError(
                f"{file.name} has {size} bytes and is cut short or not a safetensors file: its "
                f"header should have {length} bytes"
            )
        text = stream.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        ends = [tensor["data_offsets"][1] for tensor in header.values()]
        shapes = {name: tuple(tensor["shape"]) for name, tensor in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{file.name} is not a safetensors file: it has no such header") from None
    expected = LENGTH_BYTES + length + max(ends, default=0)
    if size != expected:
        raise UserError(
            f"{file.name} has {size} bytes, and {expected} by its header: it was cut short or "
            "changed; copy or download it again"
        )
    return shapes


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers loads from a folder: one, or those of an index.

    Raises UserError when there is neither, or the index is unusable.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        present = ", ".join(sorted(file.name for file in folder.glob("*.safetensors")))
        raise UserError(f"neither {SINGLE} nor {INDEX} is there; present: {present}")
    try:
        names = set(json.loads((folder / INDEX).read_bytes())["weight_map"].values())
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{INDEX} has no weight_map from tensors to files") from None
    return [folder / name for name in sorted(names)]


def load_outline(folder: Path, weights: Sequence[Path], *, trust_remote_code: bool) -> Any:
    """The model that `folder` describes, on the meta device, where tensors have no values.

    The tensors of `weights` go through transformers' own loading, as they do in training, so that
    the names and shapes that it converts are right here too. Raises UserError when transformers
    cannot build the model, or when a tensor of the model is missing or has another shape.
    """
    shapes: dict[str, Shape] = {}
    for file in weights:
        shapes |= read_shapes(file)
    files = ", ".join(file.name for file in weights[:NAMED])
    files += ", …" if len(weights) > NAMED else ""
    try:
        with _silent_transformers():
            model, report = _load_on_meta(folder, shapes, trust_remote_code)
    except Exception as error:  # a configuration and a model's own code may raise anything
        raise UserError(
            f"transformers {transformers.__version__} cannot build the model of config.json from "
            f"the tensors in {files}: {error}"
        ) from None
    # A tied tensor is missing only where the one that it shares is missing too.
    if missing := set(report["missing_keys"]) - set(model.all_tied_weights_keys):
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        named = {name: expected[name] for name in missing}
        raise UserError(_missing(files, named, sorted(report["unexpected_keys"])))
    for name, found, wanted in sorted(report["mismatched_keys"]):
        raise UserError(
            f"{files}: tensor {name} has the shape {_size(found)}, and config.json asks for "
            f"{_size(wanted)}; expected weights and configuration of one model"
        )
    if report["unexpected_keys"]:
        unused = sorted(report["unexpected_keys"])
        log.warning("%s: the model leaves %s unused", files, _some(unused))
    return model


def token_problem(tokenizer: Any, rows: int, conversation: Sequence[dict[str, str]]) -> str:
    """Which tokens have no row among the `rows` of a model's embeddings; "" when none is used.

    A special token beyond them does no harm where neither the tokenizer's start and end of a text
    nor the rendered `conversation` has it, such as the image token of Gemma 3 1B.
    """
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    if not beyond:
        return ""
    used = {tokenizer.bos_token_id, tokenizer.eos_token_id, end_of_turn(tokenizer)}
    used.update(encode_conversation(tokenizer, conversation).input_ids)
    added = tokenizer.added_tokens_decoder
    unused = {number for number in added if added[number].special and number not in used}
    needed = [f"{beyond[number]} ({number})" for number in sorted(beyond.keys() - unused)]
    if not needed:
        return ""
    return (
        f"the tokenizer's token {_some(needed)} has no row in the embeddings, which have {rows} "
        f"(ids 0 to {rows - 1}); expected the tokenizer with which the model was trained, or "
        "embeddings resized to it"
    )


def _load_on_meta(
    folder: Path, shapes: Mapping[str, Shape], trust_remote_code: bool
) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers reports about tensors that do not fit."""
    config = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=trust_remote_code
    )
    with torch.device("meta"):
        outline = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        tensors = {name: torch.empty(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
    model, report = type(outline).from_pretrained(
        None,
        config=outline.config,
        state_dict=tensors,
        device_map={"": "meta"},
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are in the report
    )
    return model, report


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Keep transformers' report of tensors that do not fit out of the log."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def _missing(files: str, missing: Mapping[str, Shape], unknown: Sequence[str]) -> str:
    some = _some([f"{name} ({_size(missing[name])})" for name in sorted(missing)])
    message = f"{files}: the model's tensors {some} are missing"
    if unknown:
        message += f"; the model has no tensors {_some(unknown)}"
    for prefix, origin in WRAPPERS.items():
        if any(name.startswith(prefix) for name in unknown):
            return message + (
                f". The prefix {prefix} comes from {origin}: save the model that it wraps"
            )
    return message + ". Expected every tensor that config.json describes"


def _some(names: Sequence[str]) -> str:
    """The first NAMED names and how many there are."""
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
