"""One writer at a time in a registry that offers no transaction: a lock with a lease, made of MLflow's own records."""

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mlflow.exceptions import MlflowException

from lmadapt.core.errors import Unavailable

LEASE_SECONDS = 60.0  # a holder seen for longer is taken for dead; what is done under the lock takes about one second
POLL_SECONDS = 0.2


@contextmanager
def registry_lock(
    client: Any, model_name: str, *, lease_seconds: float = LEASE_SECONDS
) -> Iterator[None]:
    """Hold the registered model `NAME.lock`, whose name the registry's database keeps unique, for a short while.

    A holder that others have seen for `lease_seconds`, by their own clocks, is displaced: the lock is renamed after
    its owner, which only one of them can do. Raises Unavailable on leaving where that happened to this holder.
    """
    name, owner = f"{model_name}.lock", uuid.uuid4().hex
    holder, since = "", time.monotonic()
    while (found := _take(client, name, owner)) != owner:
        if found != holder:
            holder, since = found, time.monotonic()
        elif time.monotonic() - since > lease_seconds:
            with suppress(MlflowException):
                client.rename_registered_model(name, f"{name}.{holder}")
                client.delete_registered_model(f"{name}.{holder}")
        time.sleep(POLL_SECONDS * (0.5 + random.random()))
    try:
        yield
    finally:
        if held := _holder(client, name) == owner:
            with suppress(
                MlflowException
            ):  # a repeated request, the answer to the first having been lost
                client.delete_registered_model(name)
    if not held:
        raise Unavailable(
            f"{model_name}: the registry took over {lease_seconds:.0f} s, and another process went on"
        )


def _take(client: Any, name: str, owner: str) -> str:
    """Who holds the lock, after an attempt to create it if it is free; "" when it was released just now.

    It is read first: at each refused creation MLflow's server holds two of its 15 database connections.
    """
    if holder := _holder(client, name):
        return holder
    with suppress(MlflowException):
        client.create_registered_model(name, description=owner)
    return _holder(client, name)


def _holder(client: Any, name: str) -> str:
    try:
        return str(client.get_registered_model(name).description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ""
