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

from lmadapt.core.errors import Unavailable

LEASE_SECONDS = 60.0  # what is done under the lock takes about 1 s
POLL_SECONDS = 0.2


@contextmanager
def registry_lock(
    client: Any, model_name: str, *, lease_seconds: float = LEASE_SECONDS
) -> Iterator[None]:
    """Hold the registered model `NAME.lock`; the registry's database keeps its name unique.

    A holder that another process has seen for `lease_seconds`, by that process's clock, counts as
    dead: the other renames the lock, which only one process can do. Raises Unavailable at the end
    of the block when that happened to this holder.
    """
    name, owner = f"{model_name}.lock", uuid.uuid4().hex
    holder, since = "", time.monotonic()
    while (found := _take(client, name, owner)) != owner:
        if found != holder:
            holder, since = found, time.monotonic()
        elif time.monotonic() - since > lease_seconds:
            _displace(client, name, holder)
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
    with suppress(MlflowException):  # another process was faster
        client.rename_registered_model(name, f"{name}.{holder}")
        client.delete_registered_model(f"{name}.{holder}")


def _take(client: Any, name: str, owner: str) -> str:
    """Create the lock if it is free; who holds it now, or "" when it was released just now.

    The holder is read first, because every refused creation costs MLflow's server two of its 15
    database connections.
    """
    if holder := _holder(client, name):
        return holder
    with suppress(MlflowException):
        client.create_registered_model(name, description=owner)
    return _holder(client, name)


def _holder(client: Any, name: str) -> str:
    """Who holds the lock; "" when it is free."""
    try:
        return str(client.get_registered_model(name).description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ""
