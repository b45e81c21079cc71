"""The base model, from the hub or from a folder: safetensors, with a chat template."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.core.files import atomic_folder, file_sha256, read_json
from lmadapt.models.chat import PLAIN_TEMPLATE, encode_conversation

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
MODEL_FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model", "*.tiktoken", "chat_template.jinja"),
)
"""What is taken of a model: configuration, tokenizer and safetensors; no pickles, no code."""
IGNORED_FILES = ("*/*", "consolidated*.safetensors")  # the same weights once more, in other formats
TWO_TURNS = [
    {"role": "user", "content": "First question?"},
    {"role": "assistant", "content": "First answer."},
    {"role": "user", "content": "Second question?"},
    {"role": "assistant", "content": "Second answer."},
]


def copy_model(
    name_or_path: str,
    *,
    revision: str | None,
    chat_template: str,
    trust_remote_code: bool,
    target: Path,
) -> None:
    """Copy a model from a folder, or from the hub at commit `revision`, to `target`.

    Configuration, tokenizer and safetensors only, with `trust_remote_code` the model's own code as well. Raises
    UserError when there is no such model or it cannot be used, Unavailable when the hub does not answer.
    """
    patterns = [*MODEL_FILES, *(["*.py"] if trust_remote_code else [])]
    source = Path(name_or_path)
    if not source.is_dir():
        source = download(name_or_path, revision, patterns)
    with atomic_folder(target) as temporary:
        for pattern in patterns:
            for file in sorted(source.glob(pattern)):
                if not file.match(IGNORED_FILES[1]):
                    _place(file, temporary / file.name, from_hub=not Path(name_or_path).is_dir())
        if problem := next(_problems(temporary, source, trust_remote_code), None):
            raise UserError(f"fetch.model.name_or_path: {name_or_path}: {problem}")
        tokenizer = _load_tokenizer(temporary, name_or_path, trust_remote_code)
        _settle_chat_template(tokenizer, chat_template, temporary)


def weights_sha256(folder: Path) -> dict[str, str]:
    """SHA-256 of each safetensors file of a model folder, by name."""
    return {file.name: file_sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def download(hub_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder of a hub model's files that match `patterns`; UserError or Unavailable, as `copy_model`."""
    if not HUB_ID.fullmatch(hub_id):
        raise UserError(
            f"fetch.model.name_or_path: {hub_id!r} is no model; allowed: a hub model id such as Qwen/Qwen3-8B, or "
            "an existing folder; fetch.model.module: Python that makes one of anything else"
        )
    if revision is None:
        raise UserError(
            f"fetch.model.name_or_path: there is no folder {hub_id!r}; if it is a hub model, fetch.model.revision "
            "must be the commit to pin (Files, History on its page)"
        )
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(IGNORED_FILES),
            )
        )
    except errors.GatedRepoError:
        raise UserError(
            f"{hub_id}: accept its terms on its hub page, then log in with `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"fetch.model.name_or_path: neither a folder nor a hub model is called {hub_id!r}; allowed: a hub model "
            "id such as Qwen/Qwen3-8B (private ones need `hf auth login`), or an existing folder"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"fetch.model.revision: {hub_id} has no revision {revision!r}") from None
    except OSError as error:
        raise Unavailable(
            f"fetch.model.name_or_path: {hub_id!r} is no folder here, and the hub cannot be asked for it now: {error}"
        ) from None


def _place(file: Path, target: Path, *, from_hub: bool) -> None:
    """Copy, or for weights in the hub's own cache link, so that large models take their space once."""
    if from_hub and file.suffix == ".safetensors":
        with suppress(OSError):
            os.link(file.resolve(), target)
            return
    shutil.copyfile(file, target)


def _problems(folder: Path, source: Path, trust_remote_code: bool) -> Iterator[str]:
    """What keeps the model, copied from `source` to `folder`, from being used; ask for the first only."""
    if not (folder / "config.json").is_file():
        yield "config.json is missing; expected a Hugging Face model"
    if not any(folder.glob("*.safetensors")):
        pickles = ", ".join(
            sorted(file.name for kind in ("*.bin", "*.pt", "*.pth") for file in source.glob(kind))
        )
        found = (
            f"only pickled weights ({pickles}), which can run code when read"
            if pickles
            else "no weights"
        )
        yield f"{found}; safetensors are needed"
    for index in folder.glob("*.safetensors.index.json"):
        shards = sorted(set(read_json(index)["weight_map"].values()))
        if missing := [shard for shard in shards if not (folder / shard).is_file()]:
            yield f"{', '.join(missing)} is missing, which {index.name} lists"
    config = read_json(folder / "config.json")
    if "quantization_config" in config:
        yield "it is quantised already; name the original, in 16 or 32 bits"
    if "auto_map" in config and not trust_remote_code:
        yield "it runs code of its own; read it, then set fetch.model.trust_remote_code to true"


def _load_tokenizer(folder: Path, name: str, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).replace(str(folder), name)
        raise UserError(
            f"fetch.model.name_or_path: {name}: no usable tokenizer: {reason}"
        ) from None


def _settle_chat_template(tokenizer: Any, setting: str, folder: Path) -> None:
    """Write the template beside the tokenizer, in the file that overrides whatever its configuration says."""
    template = PLAIN_TEMPLATE
    if setting == "auto" and tokenizer.chat_template:
        if problem := _template_problem(tokenizer):
            raise UserError(
                f"fetch.model.chat_template: the model's own cannot train on several turns: it {problem}; "
                "`fetch.model.chat_template: plain` (or a Jinja template file) can"
            )
        return
    if setting not in ("auto", "plain"):
        try:
            tokenizer.chat_template = template = Path(setting).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"fetch.model.chat_template: {setting}: {error.strerror}; allowed: auto, plain, or a file with a Jinja "
                "template"
            ) from None
        if problem := _template_problem(tokenizer):
            raise UserError(f"fetch.model.chat_template: {setting} {problem}")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _template_problem(tokenizer: Any) -> str:
    """What the tokenizer's template does wrong with a conversation of two turns; "" when nothing."""
    try:
        encoded = encode_conversation(tokenizer, TWO_TURNS)
    except (TemplateError, UserError, TypeError, ValueError) as error:
        return f"cannot render a two-turn conversation: {error}"
    rendered = tokenizer.decode(encoded.input_ids)
    missing = [message["content"] for message in TWO_TURNS if message["content"] not in rendered]
    return f"leaves out {missing[0]!r} of a conversation" if missing else ""
