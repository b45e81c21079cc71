"""Finds versions in the registry, by content, number or alias, and reads what lies beside them."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from pydantic import ValidationError

from lmadapt.core.errors import UserError
from lmadapt.provenance.document import Lineage
from lmadapt.registry.connection import reaching_registry


@reaching_registry()
def find_version(client: mlflow.MlflowClient, model_name: str, content: str) -> ModelVersion | None:
    """The newest version of that content (tag `content_sha256`) that is not broken."""
    found = client.search_model_versions(
        f"name = '{model_name}' and tags.content_sha256 = '{content}'"
    )
    usable = [version for version in found if version.tags.get("status") != "broken"]
    return max(usable, key=lambda version: int(version.version), default=None)


@reaching_registry()
def named_version(client: mlflow.MlflowClient, reference: str) -> ModelVersion:
    """The version of a reference NAME/NUMBER or NAME@ALIAS.

    Raises UserError naming the models and aliases there are.
    """
    name, alias, which = reference.removeprefix("models:/").partition("@")
    if not alias:
        name, _, which = name.partition("/")
    with suppress(MlflowException):
        registered = client.get_registered_model(name)
        if number := registered.aliases.get(which) if alias else which:
            return client.get_model_version(name, number)
    known = [
        f"{model.name} ({', '.join(model.aliases) or 'no alias'})"
        for model in client.search_registered_models()
    ]
    raise UserError(
        f"{reference!r}: no such version; allowed: NAME/NUMBER or NAME@ALIAS; "
        f"models: {', '.join(known) or 'none'}"
    )


def aliased_version(client: mlflow.MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version an alias points to; None when there is no such alias."""
    number = client.get_registered_model(name).aliases.get(alias)
    return client.get_model_version(name, number) if number else None


@reaching_registry()
def versions_of(client: mlflow.MlflowClient, name: str) -> list[tuple[ModelVersion, list[str]]]:
    """All versions, newest first, each with the aliases that point to it.

    Raises UserError when there is no such model.
    """
    aliases = client.get_registered_model(name).aliases
    found = client.search_model_versions(f"name = '{name}'")
    found = sorted(found, key=lambda version: -int(version.version))
    return [(version, _aliases_of(version, aliases)) for version in found]


def _aliases_of(version: ModelVersion, aliases: dict[str, str]) -> list[str]:
    return sorted(alias for alias, to in aliases.items() if str(to) == str(version.version))


@contextmanager
def read_artifact(client: mlflow.MlflowClient, version: ModelVersion, name: str) -> Iterator[Path]:
    """A file beside the version, such as lineage.json, as a local copy inside the block."""
    with tempfile.TemporaryDirectory() as temp, reaching_registry():
        yield Path(client.download_artifacts(version.run_id, name, temp))


def read_lineage(client: mlflow.MlflowClient, version: ModelVersion) -> Lineage:
    """The lineage document of a version; UserError when this release cannot read it."""
    with read_artifact(client, version, "lineage.json") as file:
        document = json.loads(file.read_text(encoding="utf-8"))
    try:
        return Lineage.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise UserError(
            f"{version.name} version {version.version}: lineage.json: {key}: {problem['msg']}; "
            "this release of lmadapt cannot read it"
        ) from None


@contextmanager
def downloaded(version: ModelVersion) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder a version ships and its configuration (see restore.py), inside the block."""
    with tempfile.TemporaryDirectory() as temp:
        with reaching_registry():
            uri = f"models:/{version.name}/{version.version}"
            folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=temp))
        yield folder / "artifacts/model", Model.load(folder).flavors["python_function"]["config"]
