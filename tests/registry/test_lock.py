"""A registry that takes no writes is an error within a deadline, never a wait without end."""

import time
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    PERMISSION_DENIED,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from lmadapt.core.errors import Unavailable, UserError
from lmadapt.registry import lock
from lmadapt.registry.lock import registry_lock

READ_ONLY = "(sqlite3.OperationalError) attempt to write a readonly database\n[SQL: INSERT"


class Registry:
    """Registered models by name; each write raises the next of `refusals`."""

    def __init__(self, refusals: Iterable[MlflowException], held_by: str = "") -> None:
        self.models = {"tiny.lock": held_by} if held_by else {}
        self.refusals = iter(refusals)

    def get_registered_model(self, name: str) -> Any:
        if name not in self.models:
            raise MlflowException("no such model", RESOURCE_DOES_NOT_EXIST)
        return type("Model", (), {"description": self.models[name]})

    def create_registered_model(self, name: str, description: str) -> None:
        self.write()
        self.models[name] = description

    def rename_registered_model(self, name: str, new: str) -> None:
        self.write()
        self.models[new] = self.models.pop(name)

    def delete_registered_model(self, name: str) -> None:
        del self.models[name]

    def write(self) -> None:
        if refusal := next(self.refusals, None):
            raise refusal


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(lock, "WRITE_SECONDS", 0.1)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("held_by", ["", "a dead process"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (TEMPORARILY_UNAVAILABLE, Unavailable),
        (INTERNAL_ERROR, Unavailable),
        (PERMISSION_DENIED, UserError),
    ],
)
def test_a_registry_that_can_only_be_read_is_an_error_within_the_deadline(
    held_by: str, code: int, kind: type[UserError]
) -> None:
    registry = Registry(repeat(MlflowException(READ_ONLY, code)), held_by)
    began = time.monotonic()
    with (
        pytest.raises(
            kind, match=r"tiny: the registry can be read, but .* readonly database;"
        ) as e,
        registry_lock(registry, "tiny", lease_seconds=0.05),
    ):
        pytest.fail("the lock was taken")
    assert type(e.value) is kind
    assert time.monotonic() - began < 2
    assert "SQL" not in str(e.value)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("code", [RESOURCE_ALREADY_EXISTS, TEMPORARILY_UNAVAILABLE])
def test_a_write_that_fails_once_is_tried_again(code: int) -> None:
    registry = Registry([MlflowException("not now", code)])
    with registry_lock(registry, "tiny"):
        assert list(registry.models) == ["tiny.lock"]
    assert registry.models == {}
