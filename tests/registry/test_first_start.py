"""The file of an SQLite registry appears whole, or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.store.db.utils
import pytest
from sqlalchemy import text

from lmadapt.core.errors import Unavailable
from lmadapt.registry.connection import _make_database, connect

Making = Callable[[Callable[[Any], None]], None]


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch) -> Making:
    """Replace what MLflow does to make its tables, which takes seconds."""

    def replace(make: Callable[[Any], None]) -> None:
        monkeypatch.setattr(mlflow.store.db.utils, "_initialize_tables", make)

    return replace


def make_one_table(engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE whole (number INTEGER)"))


def test_a_registry_that_is_cut_off_while_it_is_made_leaves_nothing_and_is_made_again(
    tmp_path: Path, making: Making
) -> None:
    def cut_off(engine: Any) -> None:
        make_one_table(engine)
        raise OSError("No space left on device")

    making(cut_off)
    with pytest.raises(Unavailable, match="No space left on device"):
        connect("sqlite:///mlflow.db", tmp_path)
    assert list(tmp_path.iterdir()) == []
    making(make_one_table)
    _make_database(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == [tmp_path / "mlflow.db"]
    assert b"CREATE TABLE whole" in (tmp_path / "mlflow.db").read_bytes()


def test_a_registry_that_another_process_made_meanwhile_stays(
    tmp_path: Path, making: Making
) -> None:
    def make_another(engine: Any) -> None:
        make_one_table(engine)
        (tmp_path / "mlflow.db").write_bytes(b"theirs")

    making(make_another)
    _make_database(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == b"theirs"


def test_only_the_missing_file_of_an_sqlite_registry_is_made(
    tmp_path: Path, making: Making
) -> None:
    making(lambda engine: pytest.fail(f"made {engine}"))
    (tmp_path / "mlflow.db").touch()
    for address in (
        f"sqlite:///{tmp_path}/mlflow.db",
        "sqlite://",
        "http://host",
        "postgresql://h",
    ):
        _make_database(address)
