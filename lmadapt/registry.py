"""Versions in an MLflow registry: uploaded, loaded back and compared, and only then given an alias."""

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import mlflow
import torch
from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from lmadapt import pyfunc_model
from lmadapt.base_reference import BaseReference
from lmadapt.chat import encode_prompt
from lmadapt.errors import Unavailable, UserError
from lmadapt.lineage import Lineage, without_passwords
from lmadapt.models import load_for_inference, load_tokenizer

REQUIREMENTS = (
    "accelerate",
    "bitsandbytes",
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
TRY_AGAIN = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}  # MLflow's codes that may pass

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
for _name in ("alembic", "mlflow"):
    logging.getLogger(_name).setLevel(logging.WARNING)


Logits = list[torch.Tensor]  # of each fixed prompt, shape 1 x tokens x vocabulary


@dataclass(frozen=True)
class Registered:
    """A version, the aliases that point to it now, and why one was refused ("" when none was)."""

    model_name: str
    version: int
    aliases: list[str]
    refusal: str


def connect(tracking_uri: str, project: Path) -> mlflow.MlflowClient:
    """A client that has reached the registry; a relative SQLite path starts at `project`.

    Raises Unavailable when nothing answers there now, UserError when the address can never work.
    """
    scheme, separator, path = tracking_uri.partition("sqlite:///")
    address = f"sqlite:///{(project / path).resolve()}" if separator and not scheme else tracking_uri
    if not MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set():
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(3)  # MLflow's own 7 take four minutes; exit code 75 is retried above us
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
        raise UserError(f"registry {shown}: its database driver is not installed: {error}") from error
    except OperationalError as error:
        raise Unavailable(f"registry {shown}: {without_passwords(str(error.orig))}") from error
    except SQLAlchemyError as error:
        raise UserError(f"registry {shown}: not a usable database: {without_passwords(str(error))[:500]}") from error
    except OSError as error:
        raise Unavailable(f"registry {shown}: {without_passwords(str(error))}") from error


@reaching()
def find_version(client: mlflow.MlflowClient, model_name: str, content: str) -> ModelVersion | None:
    """The newest version of that content (tag `content_sha256`) that did not turn out broken."""
    found = client.search_model_versions(f"name = '{model_name}' and tags.content_sha256 = '{content}'")
    usable = [version for version in found if version.tags.get("status") != "broken"]
    return max(usable, key=lambda version: int(version.version), default=None)


@reaching()
def upload_version(
    client: mlflow.MlflowClient,
    model_name: str,
    experiment_id: str,
    *,
    adapter: Path,
    base: BaseReference,
    lineage: Lineage,
    tags: dict[str, str],
    description: str,
    report: Path,
) -> ModelVersion:
    """Make a run with lineage, figures and report, a logged model from code, and a version of it with `tags`.

    The steps of `mlflow.pyfunc.log_model`, without its own trial prediction, which would load the base once more.
    """
    with (
        mlflow.start_run(experiment_id=experiment_id, run_name=model_name) as run,
        tempfile.TemporaryDirectory() as temp,
    ):
        mlflow.log_dict(lineage, "lineage.json")
        mlflow.log_artifact(str(report))
        mlflow.log_metrics(lineage["figures"])
        logged = mlflow.initialize_logged_model(model_name, source_run_id=run.info.run_id, experiment_id=experiment_id)
        folder = Path(temp) / "model"
        mlflow.pyfunc.save_model(
            folder,
            python_model=pyfunc_model.__file__,
            artifacts={"adapter": str(adapter.resolve())},
            code_paths=[str(Path(pyfunc_model.__file__).parent)],
            model_config=asdict(base),
            signature=signature(),
            input_example=(list(PROMPTS[:2]), {"max_new_tokens": 64, "temperature": 0.0}),
            pip_requirements=requirements(),
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
                run_id=run.info.run_id,
            ),
        )
        client.log_model_artifacts(logged.model_id, str(folder))
        mlflow.finalize_logged_model(logged.model_id, "READY")
    uploaded = mlflow.register_model(f"models:/{logged.model_id}", model_name, tags=tags)
    client.update_model_version(model_name, uploaded.version, description)
    return uploaded


def signature() -> ModelSignature:
    """A column of prompts in, a column of answers out; how long and how freely to answer as params."""
    return ModelSignature(
        inputs=Schema([ColSpec("string")]),
        outputs=Schema([ColSpec("string")]),
        params=ParamSchema([ParamSpec("max_new_tokens", "integer", 64), ParamSpec("temperature", "float", 0.0)]),
    )


def requirements() -> list[str]:
    """What loading a version needs, at the installed versions; build labels such as +cpu are not on the index."""
    return [f"{package}=={installed_version(package).partition('+')[0]}" for package in REQUIREMENTS]


def trained_logits(pretrained: Path, adapter: Path) -> Logits:
    """Logits of the fixed prompts from the model as it was trained, without MLflow in between."""
    return _logits(load_for_inference(pretrained, precision="nf4", adapter=adapter), load_tokenizer(adapter))


def loaded_logits(version: ModelVersion) -> Logits:
    """Logits of the fixed prompts from the version as MLflow loads it."""
    model = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}").unwrap_python_model()
    return _logits(model.model, model.tokenizer)


def verify(client: mlflow.MlflowClient, version: ModelVersion, expected: Logits) -> None:
    """Load the version back and tag it `status=verified`; UserError and `status=broken` if it is not the same model.

    Raises Unavailable, and leaves it untagged for the next run to check, when the registry cannot be reached now.
    """
    try:
        actual = loaded_logits(version)
        same = all(torch.equal(one, other) for one, other in zip(expected, actual, strict=True))
        problem = "" if same else f"its logits are off by up to {_largest_difference(expected, actual)}"
    except Exception as error:
        if _may_pass(error):
            with reaching():
                raise
        problem = f"loading it back failed: {without_passwords(str(error))}"
    with reaching():
        client.set_model_version_tag(version.name, version.version, "status", "broken" if problem else "verified")
    if problem:
        raise UserError(
            f"{version.name} version {version.version} is not the model that was trained: {problem}; "
            "it is tagged status=broken and gets no alias"
        )


def _may_pass(error: Exception) -> bool:
    if isinstance(error, MlflowException):
        return error.error_code in TRY_AGAIN
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


@reaching()
def promote(client: mlflow.MlflowClient, version: ModelVersion, verdict: dict[str, Any]) -> Registered:
    """Point `candidate` to the version, and `champion` as well where the verdict is SHIP."""
    refusal = champion_refusal(verdict)
    aliases = ["candidate"] if refusal else ["candidate", "champion"]
    for alias in aliases:
        client.set_registered_model_alias(version.name, alias, version.version)
    return Registered(version.name, int(version.version), aliases, refusal)


def champion_refusal(verdict: dict[str, Any]) -> str:
    """Why a version may not become champion; "" when it may."""
    return "" if verdict["outcome"] == "SHIP" else f"the verdict is {verdict['outcome']}: {verdict['reason']}"


@reaching()
def find_experiment(client: mlflow.MlflowClient, name: str, project: Path) -> str:
    """Id of the experiment, made when missing, with artifacts in `project`/mlartifacts unless a server keeps them."""
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    server = mlflow.get_tracking_uri().startswith(("http://", "https://", "databricks"))
    return str(client.create_experiment(name, artifact_location=None if server else (project / "mlartifacts").as_uri()))


def flat_tags(lineage: Lineage, content: str) -> dict[str, str]:
    """What a version is searched and judged by in the registry, each as a string."""
    plain = {
        "content_sha256": content,
        "adapter_sha256": lineage["adapter_sha256"],
        "base_sha256": lineage["base_sha256"],
        "chat_template_sha256": lineage["chat_template_sha256"],
        "evaluation_sha256": lineage["evaluation_sha256"],
        "requirements_lock_sha256": lineage["requirements_lock_sha256"],
        "git_commit": lineage["git"]["commit"],
        "git_dirty": json.dumps(bool(lineage["git"]["changed_files"])),
        "verdict": lineage["verdict"]["outcome"],
        "verdict_reason": lineage["verdict"]["reason"],
    }
    plain |= {name: f"{value:.4f}" for name, value in lineage["figures"].items()}
    return {name: value for name, value in plain.items() if value is not None}


def _logits(model: Any, tokenizer: Any) -> Logits:
    prompts = [encode_prompt(tokenizer, [{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids], device=model.device)).logits.cpu() for ids in prompts]


def _largest_difference(expected: Logits, actual: Logits) -> float | str:
    if any(one.shape != other.shape for one, other in zip(expected, actual, strict=True)):
        return "a different number of tokens"
    return max(float((one - other).abs().max()) for one, other in zip(expected, actual, strict=True))
