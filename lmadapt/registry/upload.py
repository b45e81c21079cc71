"""Uploads a version: its files, its lineage and the code that loads it, whole or not at all."""

import json
import shutil
import tempfile
from contextlib import suppress
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from lmadapt.provenance.document import GitState, Lineage
from lmadapt.registry.connection import reaching_registry
from lmadapt.registry.lock import registry_lock
from lmadapt.registry.versions import find_version

LIBRARY = Path(__file__).parents[1]
LOADER = (  # the files of lmadapt that a version carries, and MLflow loads it with
    "__init__.py",
    "core/__init__.py",
    "core/dvc_store.py",
    "core/environment.py",
    "core/errors.py",
    "core/files.py",
    "models/__init__.py",
    "models/chat.py",
    "models/generation.py",
    "models/loading.py",
    "registry/__init__.py",
    "registry/base_reference.py",
    "registry/restore.py",
)
MODEL_CODE = "registry/pyfunc_model.py"  # the file that MLflow runs to load a version
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
EXAMPLE = (
    ["What is the capital of France?", "Name one way to prevent SQL injection."],
    {"max_new_tokens": 64, "temperature": 0.0},
)


@reaching_registry()
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
    """Make a run with lineage, figures and documents, a logged model, and a version with `tags`.

    `shipped` is the folder of weights; `config` is what pyfunc_model.py is told. When several
    processes upload the same content, one makes the version and the others return it. What an
    interrupted process left behind is removed.
    """
    content = tags["content_sha256"]
    run = client.create_run(experiment_id, run_name=model_name, tags={"content_sha256": content})
    try:
        _log_documents(client, run.info.run_id, lineage, documents)
        logged = _log_model(client, run, shipped, config)
    except MlflowException:
        # Another process registered the same content meanwhile, and discarded this run.
        if found := find_version(client, model_name, content):
            return found
        raise
    with registry_lock(client, model_name):
        with suppress(MlflowException):  # it exists already
            client.create_registered_model(model_name)
        version = find_version(client, model_name, content) or client.create_model_version(
            model_name,
            logged.model_uri,
            run.info.run_id,
            tags,
            description=tags["verdict_reason"],
            model_id=logged.model_id,
        )
        for other in client.search_runs([experiment_id], f"tags.content_sha256 = '{content}'"):
            if other.info.status != "FINISHED" and other.info.run_id != version.run_id:
                _discard(client, other)
    return version


def _log_documents(
    client: mlflow.MlflowClient, run_id: str, lineage: Lineage, documents: list[Path]
) -> None:
    client.log_dict(run_id, lineage.model_dump(mode="json"), "lineage.json")
    for document in documents:
        client.log_artifact(run_id, str(document))
    for name, value in lineage.figures.items():
        client.log_metric(run_id, name, value)


def _log_model(
    client: mlflow.MlflowClient, run: Run, shipped: Path, config: dict[str, Any]
) -> LoggedModel:
    """Do what `mlflow.pyfunc.log_model` does, without its trial prediction.

    The trial prediction would load the base model once more.
    """
    logged = client.create_logged_model(run.info.experiment_id, run.info.run_name, run.info.run_id)
    ids = {"model_uuid": logged.model_id, "model_id": logged.model_id, "run_id": run.info.run_id}
    with tempfile.TemporaryDirectory() as temp:
        folder, package = Path(temp) / "model", Path(temp) / "lmadapt"
        _copy_loader(package)
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(LIBRARY / MODEL_CODE),
            artifacts={"model": str(shipped)},
            code_paths=[str(package)],
            model_config=config,
            signature=signature(),
            input_example=EXAMPLE,
            pip_requirements=requirements(),
            mlflow_model=Model(artifact_path=logged.artifact_location, **ids),
        )
        client.log_model_artifacts(logged.model_id, str(folder))
    return client.finalize_logged_model(logged.model_id, "READY")


def _copy_loader(package: Path) -> None:
    for name in LOADER:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LIBRARY / name, package / name)


def _discard(client: mlflow.MlflowClient, run: Run) -> None:
    """Delete an unfinished run and its models."""
    with suppress(MlflowException):  # its own process may be discarding it too
        for logged in client.search_logged_models([run.info.experiment_id]):
            if logged.source_run_id == run.info.run_id:
                client.delete_logged_model(logged.model_id)
        client.delete_run(run.info.run_id)


def signature() -> ModelSignature:
    """A column of prompts in, a column of answers out; length and sampling as params."""
    params = [
        ParamSpec("max_new_tokens", "integer", 64),
        ParamSpec("temperature", "float", 0.0),
        ParamSpec("seed", "integer", 0),
        ParamSpec("stop", "string", [], shape=(-1,)),
    ]
    text = Schema([ColSpec("string")])
    return ModelSignature(text, text, ParamSchema(params))


def requirements() -> list[str]:
    """What loading a version needs, at the installed versions.

    Build labels such as +cpu are left out: the package index does not know them.
    """
    return [
        f"{package}=={installed_version(package).partition('+')[0]}" for package in REQUIREMENTS
    ]


@reaching_registry()
def find_experiment(client: mlflow.MlflowClient, name: str, project: Path) -> str:
    """Id of the experiment, which is made when it is missing.

    A server keeps the artifacts itself; with a database they go to `project`/mlartifacts.
    """
    server = mlflow.get_tracking_uri().startswith(("http://", "https://", "databricks"))
    location = None if server else (project / "mlartifacts").as_uri()
    if not client.get_experiment_by_name(name):
        with suppress(MlflowException):  # another process made it meanwhile
            client.create_experiment(name, artifact_location=location)
    return str(client.get_experiment_by_name(name).experiment_id)


def _git_dirty(git: GitState) -> str:
    return "unknown" if git.problem else json.dumps(bool(git.changed_files))


def version_tags(lineage: Lineage, content: str) -> dict[str, str]:
    """The tags by which the registry searches and judges a version."""
    tags = {
        "content_sha256": content,
        "adapter_sha256": lineage.adapter_sha256,
        "artifact_sha256": lineage.artifact_sha256,
        "base_sha256": lineage.base_sha256,
        "chat_template_sha256": lineage.chat_template_sha256,
        "evaluation_sha256": lineage.evaluation_sha256,
        "exam_sha256": lineage.exam.sha256 if lineage.exam else None,
        "exam_sealed_items": str(lineage.exam.sealed_items) if lineage.exam else None,
        "exam_level": f"{lineage.exam.level:.6g}" if lineage.exam else None,
        "predictions_sha256": lineage.predictions_sha256,
        "requirements_lock_sha256": lineage.requirements_lock_sha256,
        "git_commit": lineage.git.commit,
        "git_dirty": _git_dirty(lineage.git),
        "git_problem": lineage.git.problem or None,
        "artifact": lineage.artifact,
        "precision": lineage.judged.precision if lineage.judged else None,
        "reference": lineage.judged.reference_title if lineage.judged else None,
        "verdict": lineage.verdict.outcome,
        "verdict_reason": lineage.verdict.reason,
    }
    figures = {name: f"{value:.4f}" for name, value in lineage.figures.items()}
    return {name: value for name, value in (tags | figures).items() if value is not None}
