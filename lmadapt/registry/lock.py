"""Lets one process at a time write to a registry that offers no transactions.

The lock has a lease and is made of MLflow's own records.
"""

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mlflow.exceptions import MlflowException

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.provenance.redaction import redact_secrets
from lmadapt.registry.connection import TRANSIENT_CODES

LEASE_SECONDS = 60.0  # what is done under the lock takes about 1 s
POLL_SECONDS = 0.2
WRITE_SECONDS = 60.0  # of failing writes before the command gives up; one may wait 30 s for MLflow
RACES = {"RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}  # another process was faster


@contextmanager
def registry_lock(
    client: Any, model_name: str, *, lease_seconds: float = LEASE_SECONDS
) -> Iterator[None]:
    """Hold the registered model `NAME.lock`; the registry's database keeps its name unique.

    A holder that another process has seen for `lease_seconds`, by that process's clock, counts as
    dead: the other renames the lock, which only one process can do. Raises Unavailable at the end
    of the block when that happened to this holder, and Unavailable or UserError when the registry
    takes no writes.
    """
    name, owner = f"{model_name}.lock", uuid.uuid4().hex
    holder, since = "", time.monotonic()
    while (found := _holder(client, name)) != owner:
        if found != holder:
            holder, since = found, time.monotonic()
        waited = time.monotonic() - since
        try:
            if not found:
                client.create_registered_model(name, description=owner)
                continue
            if waited > lease_seconds:
                _displace(client, name, holder)
        except MlflowException as error:
            # A holder that is dead has had its lease before the first attempt to displace it.
            _check_refusal(error, waited - (lease_seconds if found else 0), model_name)
        time.sleep(POLL_SECONDS * (0.5 + random.random()))
    try:
        yield
    finally:
        held = _holder(client, name) == owner
        if held:
            # A repeated request finds nothing to delete when only the first answer was lost.
            with suppress(MlflowException):
                client.delete_registered_model(name)
    if not held:
        raise Unavailable(
            f"{model_name}: writing to the registry took over {lease_seconds:.0f} s, "
            "and another process took the lock"
        )


def _displace(client: Any, name: str, holder: str) -> None:
    client.rename_registered_model(name, f"{name}.{holder}")
    client.delete_registered_model(f"{name}.{holder}")


def _check_refusal(error: MlflowException, seconds: float, model_name: str) -> None:
    """Return when another attempt may succeed; `seconds` is how long the attempts have failed.

    Raises Unavailable after WRITE_SECONDS, and UserError at once when the registry refuses.
    """
    transient = error.error_code in TRANSIENT_CODES
    if error.error_code in RACES or (transient and seconds < WRITE_SECONDS):
        return
    kind = Unavailable if transient else UserError
    said = str(redact_secrets(str(error))).partition("\n")[0][:300]
    raise kind(
        f"{model_name}: the registry can be read, but it refuses to write: {said}; check that this "
        "account may write there and that its disk has room"
    ) from error


def _holder(client: Any, name: str) -> str:
    """Who holds the lock; "" when it is free."""
    try:
        return str(client.get_registered_model(name).description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ""
