"""The base model as fetch writes it: from the hub, from a folder, or made by a Python module."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lmadapt.core.errors import UserError
from lmadapt.models.base_model import copy_model

# Takes the packages of fetch.packages, the SHA-256 of what it reads, and the folder to write to.
MakeModel = Callable[[Mapping[str, str], str | None, Path], None]


def fetch_model(
    *,
    name_or_path: str | None,
    revision: str | None,
    module: str | None,
    packages: Mapping[str, str],
    sha256: str | None,
    chat_template: str,
    trust_remote_code: bool,
    target: Path,
) -> None:
    """Write a base model to `target`: the one that `module` makes, or else `name_or_path`.

    The function `model(packages, sha256, folder)` of the module writes a model folder, which is
    then copied like any other. Raises UserError when the module has no such function, or the
    model cannot be used; Unavailable when the hub does not answer.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as made:
        if module:
            make_model = _function_of(module)
            make_model(packages, sha256, Path(made))
        copy_model(
            name_or_path or made,
            revision=revision,
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
