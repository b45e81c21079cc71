"""The chain of models that is measured: each as it is loaded, and what it answered before."""

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
from lmadapt.models import chat, generation, loading, log_likelihoods
from lmadapt.models.loading import Precision, load_for_inference
from lmadapt.models.log_likelihoods import require_known_head

KEPT = Path(
    ".lmadapt/answers.sqlite"
)  # what models answered before; beside DVC, so that it outlives a re-run
SAMPLE = range(5, 37)  # token ids on which the scorer is compared with the model's own logits
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")


@dataclass(frozen=True)
class ModelVariant:
    """A model: a folder, loaded in a precision, an adapter over it scaled by `alpha_scale`, perhaps merged into it."""

    folder: Path
    precision: Precision
    adapter: Path | None = None
    alpha_scale: float = 1.0
    merged: bool = False

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over all that its answers depend on: weights, our code, the libraries, the device."""
        facts = asdict(self) | {
            "folder": _folder_sha256(self.folder),
            "device": loading.device().type,
        }
        facts["adapter"] = _folder_sha256(self.adapter) if self.adapter else None
        facts["code"] = [
            file_sha256(Path(str(module.__file__)))
            for module in (chat, generation, loading, log_likelihoods)
        ]
        facts["versions"] = [version(name) for name in LIBRARIES]
        return hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()


@dataclass(frozen=True)
class Examinee:
    """A model that is loaded when it is first asked something new, and what it answered before."""

    model: Callable[[], Any]
    cache: AnswerCache


@contextmanager
def examinee(link: ModelVariant, answers: Path) -> Iterator[Examinee]:
    """Open a link; its model, if it had to be loaded, is let go at the end. `answers`: the file of kept answers.

    Raises UserError for a model whose log-probabilities the scorer would not reproduce.
    """

    @cache
    def model() -> Any:
        loaded = load_for_inference(**vars(link))
        require_known_head(loaded, SAMPLE)
        return loaded

    kept = AnswerCache(answers, link.fingerprint())
    try:
        yield Examinee(model, kept)
    finally:
        kept.close()
        model.cache_clear()
        gc.collect()


_folder_sha256 = cache(folder_sha256)


def model_folders(model: str, paths: dict[str, Path]) -> tuple[Path, Path | None]:
    """The folders of a model (base | pretrained | adapted | folder) and of the adapter over it, if there is one.

    Raises UserError when there is no such model.
    """
    if model in {"base", "pretrained"}:
        return paths[model], None
    folder = paths["adapter"] if model == "adapted" else Path(model)
    if (folder / "adapter_config.json").is_file():
        return paths["pretrained"], folder
    if model != "adapted" and folder.is_dir():
        return folder, None
    raise UserError(
        f"{folder}: no model here; allowed: base, pretrained, adapted, models:/NAME@ALIAS, or a folder"
    )
