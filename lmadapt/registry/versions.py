"""Versions in an MLflow registry: uploaded whole, found by content, by number or by alias, and read back."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

# Only safetensors are ever read from a registry; MLflow itself would unpickle what an MLmodel file tells it to.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.provenance.lineage import Lineage, without_passwords
from lmadapt.registry.lock import registry_lock

REQUIREMENTS = (
    "accelerate",
    "bitsandbytes",
    "fsspec",
    "jinja2",
    "mlflow",
    "pandas",
    "peft",
    "safetensors",
    "torch",
    "transformers",
)
PROMPTS = (
    "What is the capital of France?",
    "Name one way to prevent SQL injection.",
    "Was ist 17 + 25? Schritt für Schritt.",
)
LOADER = (  # what a version brings along of lmadapt, with which MLflow loads it
    "__init__.py",
    *(f"core/{name}.py" for name in ("__init__", "dvc_store", "errors", "files")),
    *(f"models/{name}.py" for name in ("__init__", "chat", "generation", "loading")),
    *(f"registry/{name}.py" for name in ("__init__", "base_reference", "restore")),
)
TRY_AGAIN = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
}  # MLflow's codes that may pass

for _name in ("alembic", "mlflow"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def connect(tracking_uri: str, project: Path) -> mlflow.MlflowClient:
    """A client that has reached the registry; a relative SQLite path starts at `project`.

    Raises Unavailable when nothing answers there now, UserError when the address can never work.
    """
    scheme, separator, path = tracking_uri.partition("sqlite:///")
    address = (
        f"sqlite:///{(project / path).resolve()}" if separator and not scheme else tracking_uri
    )
    if not MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set():
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(
            3
        )  # MLflow's own 7 take four minutes; exit code 75 is retried above us
    if not MLFLOW_HTTP_REQUEST_TIMEOUT.is_set():
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(30)  # seconds of silence, instead of two minutes
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    with reaching():
        client = mlflow.MlflowClient()
        client.search_registered_models(max_results=1)
    return client


@contextmanager
def reaching() -> Iterator[None]:
    """Turn what goes wrong between us and the registry into Unavailable or UserError, naming its address."""
    shown = without_passwords(mlflow.get_tracking_uri())
    try:
        yield
    except MlflowException as error:
        kind = Unavailable if error.error_code in TRY_AGAIN else UserError
        raise kind(f"registry {shown}: {without_passwords(str(error))[:500]}") from error
    except ModuleNotFoundError as error:
        raise UserError(
            f"registry {shown}: its database driver is not installed: {error}"
        ) from error
    except OperationalError as error:
        raise Unavailable(f"registry {shown}: {without_passwords(str(error.orig))}") from error
    except SQLAlchemyError as error:
        raise UserError(
            f"registry {shown}: not a usable database: {without_passwords(str(error))[:500]}"
        ) from error
    except OSError as error:
        raise Unavailable(f"registry {shown}: {without_passwords(str(error))}") from error


@reaching()
def find_version(client: mlflow.MlflowClient, model_name: str, content: str) -> ModelVersion | None:
    """The newest version of that content (tag `content_sha256`) that did not turn out broken."""
    found = client.search_model_versions(
        f"name = '{model_name}' and tags.content_sha256 = '{content}'"
    )
    usable = [version for version in found if version.tags.get("status") != "broken"]
    return max(usable, key=lambda version: int(version.version), default=None)


@reaching()
def named_version(client: mlflow.MlflowClient, reference: str) -> ModelVersion:
    """The version of a reference NAME/VERSION or NAME@ALIAS; raises UserError naming what there is instead."""
    name, alias, which = reference.removeprefix("models:/").partition("@")
    if not alias:
        name, _, which = name.partition("/")
    with suppress(MlflowException):
        registered = client.get_registered_model(name)
        if number := registered.aliases.get(which) if alias else which:
            return client.get_model_version(name, number)
    known = ", ".join(
        f"{one.name} ({', '.join(one.aliases) or '-'})" for one in client.search_registered_models()
    )
    raise UserError(
        f"{reference!r} is no version; expected NAME/VERSION or NAME@ALIAS; the models are: {known or '-'}"
    )


def aliased_version(client: mlflow.MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version an alias points to; None where there is no such alias."""
    number = client.get_registered_model(name).aliases.get(alias)
    return client.get_model_version(name, number) if number else None


@reaching()
def versions_of(client: mlflow.MlflowClient, name: str) -> list[tuple[ModelVersion, list[str]]]:
    """All versions, newest first, each with the aliases that point to it; UserError when there is no such model."""
    aliases = client.get_registered_model(name).aliases
    found = sorted(
        client.search_model_versions(f"name = '{name}'"), key=lambda version: -int(version.version)
    )
    return [
        (one, sorted(alias for alias, to in aliases.items() if str(to) == str(one.version)))
        for one in found
    ]


@reaching()
def upload_version(
    client: mlflow.MlflowClient,
    model_name: str,
    experiment_id: str,
    *,
    shipped: Path,
    config: dict[str, Any],
    lineage: Lineage,
    tags: dict[str, str],
    documents: list[Path],
) -> ModelVersion:
    """Make a run with lineage, figures and documents, a logged model from code, and a version of it with `tags`.

    `shipped` is the folder of weights, `config` what pyfunc_model is told. Of several processes that upload the same
    content one makes the version and the others get it; what an interrupted one left behind is removed.
    """
    content = tags["content_sha256"]
    run = client.create_run(experiment_id, run_name=model_name, tags={"content_sha256": content})
    run_id = run.info.run_id
    try:
        client.log_dict(run_id, lineage, "lineage.json")
        for document in documents:
            client.log_artifact(run_id, str(document))
        for name, value in lineage["figures"].items():
            client.log_metric(run_id, name, value)
        logged = _log_model(client, run, shipped, config)
    except (
        MlflowException
    ):  # another process may have registered the same meanwhile, and discarded this run
        if found := find_version(client, model_name, content):
            return found
        raise
    with registry_lock(client, model_name):
        with suppress(MlflowException):  # it exists already
            client.create_registered_model(model_name)
        version = find_version(client, model_name, content) or client.create_model_version(
            model_name,
            logged.model_uri,
            run_id,
            tags,
            description=tags["verdict_reason"],
            model_id=logged.model_id,
        )
        for other in client.search_runs([experiment_id], f"tags.content_sha256 = '{content}'"):
            if other.info.status != "FINISHED" and other.info.run_id != version.run_id:
                _discard(client, other)
    return version


def _log_model(
    client: mlflow.MlflowClient, run: Run, shipped: Path, config: dict[str, Any]
) -> LoggedModel:
    """The steps of `mlflow.pyfunc.log_model`, without its trial prediction, which would load the base once more."""
    from lmadapt.registry import pyfunc_model

    code = Path(pyfunc_model.__file__)
    logged = client.create_logged_model(run.info.experiment_id, run.info.run_name, run.info.run_id)
    ids = {"model_uuid": logged.model_id, "model_id": logged.model_id, "run_id": run.info.run_id}
    with tempfile.TemporaryDirectory() as temp:
        folder, package = Path(temp) / "model", Path(temp) / "lmadapt"
        for name in LOADER:
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(code.parents[1] / name, package / name)
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(code),
            artifacts={"model": str(shipped)},
            code_paths=[str(package)],
            model_config=config,
            signature=signature(),
            input_example=(list(PROMPTS[:2]), {"max_new_tokens": 64, "temperature": 0.0}),
            pip_requirements=requirements(),
            mlflow_model=Model(artifact_path=logged.artifact_location, **ids),
        )
        client.log_model_artifacts(logged.model_id, str(folder))
    return client.finalize_logged_model(logged.model_id, "READY")


def _discard(client: mlflow.MlflowClient, run: Run) -> None:
    with suppress(MlflowException):  # its own process may be discarding it as well
        for logged in client.search_logged_models([run.info.experiment_id]):
            if logged.source_run_id == run.info.run_id:
                client.delete_logged_model(logged.model_id)
        client.delete_run(run.info.run_id)


@contextmanager
def read_artifact(client: mlflow.MlflowClient, version: ModelVersion, name: str) -> Iterator[Path]:
    """A file beside the version, such as lineage.json, as a local file for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as temp, reaching():
        yield Path(client.download_artifacts(version.run_id, name, temp))


def read_lineage(client: mlflow.MlflowClient, version: ModelVersion) -> Lineage:
    """The lineage document of a version."""
    with read_artifact(client, version, "lineage.json") as file:
        return dict(json.loads(file.read_text(encoding="utf-8")))


@contextmanager
def downloaded(version: ModelVersion) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What the version ships, for as long as the block lasts, and what it was told of its base; see assembly."""
    with tempfile.TemporaryDirectory() as temp:
        with reaching():
            uri = f"models:/{version.name}/{version.version}"
            folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=temp))
        yield folder / "artifacts/model", Model.load(folder).flavors["python_function"]["config"]


def signature() -> ModelSignature:
    """A column of prompts in, a column of answers out; how long and how freely to answer as params."""
    params = [
        ParamSpec("max_new_tokens", "integer", 64),
        ParamSpec("temperature", "float", 0.0),
        ParamSpec("seed", "integer", 0),
        ParamSpec("stop", "string", [], shape=(-1,)),
    ]
    return ModelSignature(
        Schema([ColSpec("string")]), Schema([ColSpec("string")]), ParamSchema(params)
    )


def requirements() -> list[str]:
    """What loading a version needs, at the installed versions; build labels such as +cpu are not on the index."""
    return [
        f"{package}=={installed_version(package).partition('+')[0]}" for package in REQUIREMENTS
    ]


@reaching()
def find_experiment(client: mlflow.MlflowClient, name: str, project: Path) -> str:
    """Id of the experiment, made when missing, with artifacts in `project`/mlartifacts unless a server keeps them."""
    server = mlflow.get_tracking_uri().startswith(("http://", "https://", "databricks"))
    if not client.get_experiment_by_name(name):
        with suppress(MlflowException):  # another process made it meanwhile
            client.create_experiment(
                name, artifact_location=None if server else (project / "mlartifacts").as_uri()
            )
    return str(client.get_experiment_by_name(name).experiment_id)


def flat_tags(lineage: Lineage, content: str) -> dict[str, str]:
    """What a version is searched and judged by in the registry, each as a string."""
    plain = {key: value for key, value in lineage.items() if key.endswith("_sha256")}
    plain |= {
        "content_sha256": content,
        "git_commit": lineage["git"]["commit"],
        "git_dirty": json.dumps(bool(lineage["git"]["changed_files"])),
        "verdict": lineage["verdict"]["outcome"],
        "verdict_reason": lineage["verdict"]["reason"],
    }
    plain |= {name: f"{value:.4f}" for name, value in lineage["figures"].items()}
    return {name: value for name, value in plain.items() if value is not None}
