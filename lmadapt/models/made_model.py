"""A base model that a Python module of the project makes, for example from packages."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lmadapt.core.errors import UserError
from lmadapt.models.base_model import copy_model

# Takes the packages of fetch.packages, the SHA-256 of what it reads, and the folder to write to.
MakeModel = Callable[[Mapping[str, str], str | None, Path], None]


def make_and_copy_model(
    module: str,
    packages: Mapping[str, str],
    sha256: str | None,
    *,
    chat_template: str,
    trust_remote_code: bool,
    target: Path,
) -> None:
    """Let a module of the project make a model, then copy it to `target` as a folder would be.

    Raises UserError when the module has no function `model`, or its model cannot be used.
    """
    make = _function_of(module)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as made:
        make(packages, sha256, Path(made))
        copy_model(
            made,
            revision=None,
            chat_template=chat_template,
            trust_remote_code=trust_remote_code,
            target=target,
        )


def _function_of(module: str) -> MakeModel:
    try:
        make: MakeModel = importlib.import_module(module).model
    except (ModuleNotFoundError, AttributeError) as error:
        raise UserError(
            f"fetch.model.module: {module!r} is not a module with a function `model`: {error}"
        ) from None
    return make
