"""Copies the base model from the Hugging Face hub or a folder, and checks that it can be used."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.core.files import atomic_folder, file_sha256, read_json
from lmadapt.models.chat import PLAIN_TEMPLATE, encode_conversation, pin_date

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
MODEL_FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model", "*.tiktoken", "chat_template.jinja"),
)
"""The files that are copied: configuration, tokenizer and safetensors; no pickles and no code."""
CONSOLIDATED = "consolidated*.safetensors"  # the same weights again, in another format
IGNORED_FILES = ("*/*", CONSOLIDATED)
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
    """Copy a model from a folder, or from the hub at commit `revision`, to the folder `target`.

    Configuration, tokenizer and safetensors are copied; with `trust_remote_code` also the model's
    own code. `chat_template` is auto (the model's own), plain, or a Jinja file.
    Raises UserError when the model does not exist or cannot be used, and Unavailable when the hub
    does not answer.
    """
    patterns = [*MODEL_FILES, *(["*.py"] if trust_remote_code else [])]
    source = Path(name_or_path)
    from_hub = not source.is_dir()
    if from_hub:
        source = download(name_or_path, revision, patterns)
    found = chain.from_iterable(sorted(source.glob(pattern)) for pattern in patterns)
    files = [file for file in found if not file.match(CONSOLIDATED)]
    if problem := next(_problems(files, source, trust_remote_code), None):
        raise UserError(f"fetch.model.name_or_path: {name_or_path}: {problem}")
    with atomic_folder(target) as temporary:
        for file in files:
            if file.suffix != ".safetensors":
                shutil.copyfile(file, temporary / file.name)
        tokenizer = _load_tokenizer(temporary, name_or_path, trust_remote_code)
        _settle_chat_template(tokenizer, chat_template, temporary)
        try:
            _require_fitting_weights(temporary, source, tokenizer, trust_remote_code)
        except UserError as error:
            raise UserError(f"fetch.model.name_or_path: {name_or_path}: {error}") from None
        for file in files:
            if file.suffix == ".safetensors":
                _place(file, temporary / file.name, from_hub=from_hub)


def weights_sha256(folder: Path) -> dict[str, str]:
    """Hexadecimal SHA-256 of each safetensors file of a model folder, by file name."""
    return {file.name: file_sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def download(hub_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Download a hub model's files that match `patterns`; the folder they are in.

    Raises UserError and Unavailable as `copy_model` does.
    """
    if not HUB_ID.fullmatch(hub_id):
        raise UserError(
            f"fetch.model.name_or_path: {hub_id!r} is not a model; allowed: a hub model id such as "
            "Qwen/Qwen3-8B, or an existing folder. Python code in fetch.model.module can make a "
            "model from anything else"
        )
    if revision is None:
        raise UserError(
            f"fetch.model.name_or_path: there is no folder {hub_id!r}. If it is a hub model, set "
            "fetch.model.revision to the commit to pin (see Files, History on its hub page)"
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
            f"fetch.model.name_or_path: {hub_id}: accept the model's terms on its hub page, then "
            "log in with `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"fetch.model.name_or_path: no folder and no hub model is called {hub_id!r}; allowed: "
            "a hub model id such as Qwen/Qwen3-8B (private models need `hf auth login`), or an "
            "existing folder"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"fetch.model.revision: {hub_id} has no revision {revision!r}") from None
    except OSError as error:
        raise Unavailable(
            f"fetch.model.name_or_path: {hub_id!r} is not a folder here, and it cannot be "
            f"downloaded from the hub now: {error}"
        ) from None


def _place(file: Path, target: Path, *, from_hub: bool) -> None:
    """Copy a file of weights, or link it in the hub's cache, to use disk space only once."""
    if from_hub:
        with suppress(OSError):
            os.link(file.resolve(), target)
            return
    shutil.copyfile(file, target)


def _problems(files: Sequence[Path], source: Path, trust_remote_code: bool) -> Iterator[str]:
    """Why the model in `source`, of which `files` would be copied, cannot be used.

    Later checks rely on earlier ones, so only the first problem may be read.
    """
    from lmadapt.models.weights_check import file_problem

    if not (source / "config.json").is_file():
        yield "config.json is missing; expected a Hugging Face model"
    if not any(file.suffix == ".safetensors" for file in files):
        found = "no weights"
        others = chain.from_iterable(source.glob(kind) for kind in ("*.bin", "*.pt", "*.pth"))
        if pickles := sorted(file.name for file in others):
            found = f"only pickled weights ({', '.join(pickles)}), which can run code when read"
        yield f"{found}; safetensors are needed"
    yield from filter(None, map(file_problem, files))
    for index in source.glob("*.safetensors.index.json"):
        shards = sorted(set(read_json(index).get("weight_map", {}).values()))
        if missing := [shard for shard in shards if not (source / shard).is_file()]:
            yield f"{', '.join(missing)} is missing, although {index.name} lists it"
    config = read_json(source / "config.json")
    if "quantization_config" in config:
        yield "it is already quantised; use the original model, in 16 or 32 bits"
    if "auto_map" in config and not trust_remote_code:
        yield "it runs its own code; read that code, then set fetch.model.trust_remote_code to true"


def _require_fitting_weights(
    folder: Path, source: Path, tokenizer: Any, trust_remote_code: bool
) -> None:
    """Raise UserError when the weights in `source` do not fit configuration and tokenizer."""
    from lmadapt.models.weights_check import load_outline, token_problem, weight_files

    model = load_outline(folder, weight_files(source), trust_remote_code=trust_remote_code)
    rows = len(model.get_input_embeddings().weight)
    if problem := token_problem(tokenizer, rows, TWO_TURNS):
        raise UserError(problem)


def _load_tokenizer(folder: Path, name: str, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # the tokenizers library raises bare exceptions
        reason = str(error).replace(str(folder), name)
        raise UserError(
            f"fetch.model.name_or_path: {name}: no usable tokenizer: {reason}"
        ) from None


def _settle_chat_template(tokenizer: Any, setting: str, folder: Path) -> None:
    """Write the template that `setting` names beside the tokenizer, unless it is the model's own.

    transformers prefers that file to a template in the tokenizer's configuration. A template that
    prints today's date, the model's own too, is written with the date pinned.
    """
    own = tokenizer.chat_template if setting == "auto" else None
    template = own or PLAIN_TEMPLATE
    if setting not in ("auto", "plain"):
        try:
            template = Path(setting).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"fetch.model.chat_template: {setting}: {error.strerror}; allowed: auto, plain, or "
                "a file with a Jinja template"
            ) from None
    if isinstance(template, str):
        template = pin_date(template, date.today())
    if template != own:
        tokenizer.chat_template = template
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if problem := _template_problem(tokenizer):
        if own:
            raise UserError(
                f"fetch.model.chat_template: the model's own template cannot train on several "
                f"turns: it {problem}; use `fetch.model.chat_template: plain` or a Jinja file"
            )
        raise UserError(f"fetch.model.chat_template: {setting} {problem}")


def _template_problem(tokenizer: Any) -> str:
    """What the tokenizer's template does wrong with two turns; "" when it does nothing wrong."""
    try:
        encoded = encode_conversation(tokenizer, TWO_TURNS)
    except (TemplateError, UserError, TypeError, ValueError) as error:
        return f"cannot render a two-turn conversation: {error}"
    rendered = tokenizer.decode(encoded.input_ids)
    missing = [message["content"] for message in TWO_TURNS if message["content"] not in rendered]
    return f"leaves out {missing[0]!r} of a conversation" if missing else ""
