"""The models that are compared, each with its weights, precision and adapter."""

import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.core.files import file_sha256, folder_sha256
from lmadapt.evaluation.answer_cache import AnswerCache
from lmadapt.models import chat, generation, loading, log_likelihoods, questions, token_trees
from lmadapt.models.loading import Precision, load_for_inference
from lmadapt.models.log_likelihoods import require_known_head

ANSWERING_CODE = (chat, generation, loading, log_likelihoods, questions, token_trees)
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
SAMPLE = range(5, 37)  # token ids of a text on which our log-probabilities must be the model's own

_folder_sha256 = cache(folder_sha256)


@dataclass(frozen=True)
class ModelVariant:
    """A model as it is loaded: a folder in one precision, perhaps with an adapter."""

    folder: Path
    precision: Precision
    adapter: Path | None = None
    alpha_scale: float = 1.0  # multiplies what the adapter adds
    merged: bool = False  # whether the adapter is merged into the weights

    def weights_sha256(self) -> str:
        """Hexadecimal SHA-256 of the model's folder; with an adapter, of both folders' hashes."""
        base = _folder_sha256(self.folder)
        if self.adapter is None:
            return base
        return hashlib.sha256(f"{base}\n{_folder_sha256(self.adapter)}".encode()).hexdigest()

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of all that the answers depend on.

        These are the weights, our code, the libraries and the kind of device.
        """
        facts = asdict(self) | {
            "folder": _folder_sha256(self.folder),
            "adapter": _folder_sha256(self.adapter) if self.adapter else None,
            "device": loading.device().type,
            "code": [file_sha256(Path(str(module.__file__))) for module in ANSWERING_CODE],
            "versions": [version(name) for name in LIBRARIES],
        }
        return hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()


@dataclass(frozen=True)
class CachedModel:
    """A model with its earlier answers; it is loaded when a question is new."""

    load: Callable[[], Any]
    cache: AnswerCache


@contextmanager
def open_variant(variant: ModelVariant, answer_file: Path) -> Iterator[CachedModel]:
    """Yield a variant that can be asked; at the end, free the memory of its model.

    Raises UserError for a model whose log-probabilities we would not reproduce.
    """

    @cache
    def load() -> Any:
        model = load_for_inference(**vars(variant))
        require_known_head(model, SAMPLE)
        return model

    answers = AnswerCache(answer_file, variant.fingerprint())
    try:
        yield CachedModel(load, answers)
    finally:
        answers.close()
        load.cache_clear()
        gc.collect()


def model_folders(model: str, paths: dict[str, Path]) -> tuple[Path, Path | None]:
    """The folder of a model, and the folder of the adapter over it or None.

    `model`: base, pretrained, adapted, or a folder; `paths`: the folders of the first three, where
    `adapter` is that of adapted. Raises UserError when there is no such model.
    """
    if model in {"base", "pretrained"}:
        return paths[model], None
    folder = paths["adapter"] if model == "adapted" else Path(model)
    if (folder / "adapter_config.json").is_file():
        return paths["pretrained"], folder
    if model != "adapted" and folder.is_dir():
        return folder, None
    raise UserError(
        f"{folder}: no model here; allowed: base, pretrained, adapted, models:/NAME@ALIAS, or a "
        "folder"
    )
