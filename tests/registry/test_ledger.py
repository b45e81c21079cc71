"""The ledger: how many models an exam has judged, and what that does to the error."""

from pathlib import Path
from typing import Any

import mlflow
import pytest

from lmadapt.registry.exam_ledger import Ledger, exams_in, read_ledger, record
from lmadapt.registry.promotion import promote, settled_standing
from tests.registry.registered import client, empty_registry, make_version

__all__ = ["client", "empty_registry"]  # fixtures
EXAM = "e" * 64


def judged(client: mlflow.MlflowClient, folder: Path, number: int, **changes: Any) -> Any:
    tags = {"exam_sha256": EXAM, "exam_level": "0.05"} | changes
    return make_version(client, folder, number, tags=tags)


def test_each_model_counts_once_however_often_it_is_looked_at(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 3):
        version = judged(client, tmp_path, number)
        standings = [promote(client, version, candidate=True) for _ in range(2)]
        assert [one.ledger.models for one in standings if one.ledger] == [number, number]
    client.delete_model_version("tiny", "2")
    assert read_ledger(client, EXAM).models == 3  # a look cannot be taken back
    assert read_ledger(client, "d" * 64).models == 0


def test_the_ledger_is_read_without_mlflow_too(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        promote(client, judged(client, tmp_path, number, verdict="HOLD"), candidate=True)
    standing = settled_standing("sqlite:///mlflow.db", tmp_path, "tiny", "2")
    assert standing is not None
    assert standing.ledger == read_ledger(client, EXAM)
    assert standing.ledger.models == 2


def test_versions_of_releases_without_exams_are_left_out(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    standing = promote(client, make_version(client, tmp_path, 1))
    assert standing.ledger is None
    assert exams_in(client) == []


def test_openings_are_counted_apart(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    version = judged(client, tmp_path, 1)
    for kind in ("judged", "opened", "opened"):
        record(client, version, kind)  # type: ignore[arg-type]
    (found,) = exams_in(client)
    assert (found.models, found.opened) == (1, 1)
    assert "Its sealed part was opened for 1 model." in found.in_words()


def test_the_chance_that_one_of_many_passes_grows_with_their_number() -> None:
    assert Ledger(EXAM, [0.05], 0).error == pytest.approx(0.05)
    assert Ledger(EXAM, [0.05] * 50, 0).error == pytest.approx(1 - 0.95**50)
    assert Ledger(EXAM, [0.005] * 10, 0).error < 0.05  # a sweep that divided its level
    words = Ledger(EXAM, [0.05] * 14, 0).in_words()
    assert words.startswith("The exam eeeeeeeeeeee has judged 14 models: if none of them gained")
    assert "the chance that at least one passes is at most 51 %" in words
