"""Versions without a model in a SQLite registry, for tests of what the registry decides."""

import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest

from lmadapt.registry.connection import connect
from lmadapt.registry.upload import find_experiment, upload_version
from tests.adapted import make_lineage, write_predictions

MARGINS = {"margin": 0.02, "category_margin": 0.05, "significance": 0.05}


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty registry, because making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    connect("sqlite:///mlflow.db", folder)
    return folder / "mlflow.db"


@pytest.fixture
def client(
    tmp_path: Path, empty_registry: Path, monkeypatch: pytest.MonkeyPatch
) -> mlflow.MlflowClient:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_registry, tmp_path / "mlflow.db")
    return connect("sqlite:///mlflow.db", tmp_path)


def make_version(
    client: mlflow.MlflowClient,
    folder: Path,
    number: int,
    *,
    settings: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
    lineage: dict[str, Any] | None = None,
    **predictions: Any,
) -> Any:
    """A verified version with verdict SHIP; its predictions have the given wrong answers.

    `settings` changes section evaluate of its params.
    """
    write_predictions(folder, **predictions)
    (folder / "reports/predictions.parquet").rename(folder / "predictions.parquet")
    shipped = folder / "model"
    shipped.mkdir(exist_ok=True)
    (shipped / "weights.safetensors").write_text(str(number))
    own = {"content_sha256": str(number), "verdict": "SHIP", "verdict_reason": "as told"}
    version = upload_version(
        client,
        "tiny",
        find_experiment(client, "tests", folder),
        shipped=shipped,
        config={"artifact_sha256": "0"},
        lineage=make_lineage(params={"evaluate": MARGINS | (settings or {})}, **(lineage or {})),
        tags=own | (tags or {}),
        documents=[folder / "predictions.parquet"],
    )
    client.set_terminated(version.run_id)
    client.set_model_version_tag("tiny", version.version, "status", "verified")
    return client.get_model_version("tiny", version.version)


def champion(client: mlflow.MlflowClient) -> int:
    """The number of the version that is champion."""
    return int(client.get_registered_model("tiny").aliases["champion"])
