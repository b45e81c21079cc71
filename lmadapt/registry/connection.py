"""Connects to the registry, and turns what goes wrong on the way into errors a user can act on.

MLflow is imported only when something is asked of the registry.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.provenance.redaction import redact_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow unpickles whatever an MLmodel file names; this project reads only safetensors.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

MAX_RETRIES = 3  # MLflow's 7 take four minutes; whoever runs the command retries on exit code 75
TIMEOUT_SECONDS = 30  # without a byte from the server; MLflow's own is 120
TRANSIENT_CODES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


def connect(tracking_uri: str, project: Path) -> "MlflowClient":
    """A client that has reached the registry; a relative SQLite path starts at `project`.

    Raises Unavailable when the registry does not answer now, UserError when the address cannot
    work at all.
    """
    import mlflow
    from mlflow.environment_variables import (
        MLFLOW_HTTP_REQUEST_MAX_RETRIES,
        MLFLOW_HTTP_REQUEST_TIMEOUT,
    )

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    address = _absolute(tracking_uri, project)
    if not MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set():
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(MAX_RETRIES)
    if not MLFLOW_HTTP_REQUEST_TIMEOUT.is_set():
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(TIMEOUT_SECONDS)
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    with reaching_registry():
        _make_database(address)
        client = mlflow.MlflowClient()
        client.search_registered_models(max_results=1)
    return client


def _absolute(tracking_uri: str, project: Path) -> str:
    scheme, separator, path = tracking_uri.partition("sqlite:///")
    if separator and not scheme:
        return f"sqlite:///{(project / path).resolve()}"
    return tracking_uri


def _make_database(address: str) -> None:
    """Make the tables of an SQLite registry whose file does not exist yet.

    The file appears whole: MLflow cannot complete one that was cut off while it was made.
    """
    scheme, _, path = address.partition("sqlite:///")
    file = Path(path)
    if scheme or not path.startswith("/") or "?" in path or file.exists():
        return
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{file.name}.", dir=file.parent) as temp:
        made = Path(temp) / file.name
        engine = create_sqlalchemy_engine(f"sqlite:///{made}")
        try:
            _initialize_tables(engine)
        finally:
            engine.dispose()
        try:
            os.link(made, file)
        except FileExistsError:
            pass  # another process was faster; its file stays
        except OSError:  # a file system without hard links
            made.rename(file)


@contextmanager
def reaching_registry() -> Iterator[None]:
    """Turn errors between this process and the registry into Unavailable or UserError.

    The message names the registry's address; no secret in an address is shown.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    registry = f"registry {redact_secrets(mlflow.get_tracking_uri())}"
    try:
        yield
    except MlflowException as error:
        kind = Unavailable if error.error_code in TRANSIENT_CODES else UserError
        raise kind(f"{registry}: {_shown(error)}") from error
    except ModuleNotFoundError as error:
        raise UserError(f"{registry}: its database driver is not installed: {error}") from error
    except OperationalError as error:
        raise Unavailable(f"{registry}: {redact_secrets(str(error.orig))}") from error
    except SQLAlchemyError as error:
        raise UserError(f"{registry}: not a usable database: {_shown(error)}") from error
    except OSError as error:
        raise Unavailable(f"{registry}: {redact_secrets(str(error))}") from error


def _shown(error: Exception) -> str:
    return str(redact_secrets(str(error)))[:500]
