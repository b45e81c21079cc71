"""The sealed part of an exam: a promotion alone opens it, last of all, and it is counted."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from lmadapt.registry import sealed_part
from lmadapt.registry.exam_ledger import read_ledger
from lmadapt.registry.promotion import promote
from lmadapt.registry.sealed_part import open_if_all_else_passes
from lmadapt.verdict.decision import Scored
from tests.adapted import EXAM
from tests.registry.registered import champion, client, empty_registry, make_version

__all__ = ["client", "empty_registry"]  # fixtures
TAGS = {"exam_sha256": "e" * 64, "exam_level": "0.05", "exam_sealed_items": "300"}
SEALED = EXAM | {"sealed_items": 300}


def answers(domain_right: int, general_right: int = 200) -> Scored:
    """Scores on 100 domain and 200 general items; the first of each group are right."""
    groups = np.repeat(["domain", "general"], [100, 200])
    ids = np.array([f"{number:03}" for number in range(300)])
    scores = np.concatenate([np.arange(100) < domain_right, np.arange(200) < general_right])
    return Scored(ids, groups, groups, ids, scores.astype(float))


def exam_version(client: mlflow.MlflowClient, folder: Path, number: int, wrong: int) -> Any:
    return make_version(
        client, folder, number, tags=TAGS, lineage={"exam": SEALED}, domain_wrong=wrong
    )


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Scored]:
    """The scores on sealed items by version, "" for the base; without models and DVC."""
    monkeypatch.chdir(tmp_path)
    scores: dict[str, Scored] = {"": answers(30), "1": answers(50), "2": answers(80)}
    monkeypatch.setattr(sealed_part, "_sealed", lambda lineage: [{}] * 300)
    monkeypatch.setattr(sealed_part, "_base_scores", lambda lineage, items: scores[""])
    monkeypatch.setattr(
        sealed_part, "_version_scores", lambda version, *_: scores[str(version.version)]
    )
    return scores


def test_only_an_opening_lets_a_version_with_sealed_items_become_champion(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    version = exam_version(client, tmp_path, 1, 30)
    assert promote(client, version, candidate=True).refusal == (
        "its exam has 300 sealed items; `lmadapt promote tiny/1` opens them"
    )
    opening = open_if_all_else_passes(client, version, {})
    standing = promote(client, version, opening=opening)
    assert standing.refusal == ""
    assert standing.ledger is not None
    assert standing.ledger.opened == 1
    better = exam_version(client, tmp_path, 2, 0)
    opening = open_if_all_else_passes(client, better, {})
    assert opening is not None
    assert opening.against == "1"
    assert promote(client, better, opening=opening).refusal == ""
    assert read_ledger(client, "e" * 64).opened == 2


def test_what_fails_on_the_sealed_items_is_refused(
    client: mlflow.MlflowClient, tmp_path: Path, asked: dict[str, Scored]
) -> None:
    version = exam_version(client, tmp_path, 1, 30)
    promote(client, version, opening=open_if_all_else_passes(client, version, {}))
    asked["2"] = answers(80, general_right=150)
    second = exam_version(client, tmp_path, 2, 0)
    opening = open_if_all_else_passes(client, second, {})
    refusal = promote(client, second, opening=opening).refusal
    assert refusal.startswith("on the 300 sealed items, against version 1: General ability became")
    assert champion(client) == 1
    assert promote(client, second, reason="the board wants it").refusal == ""


def test_nothing_is_opened_for_a_version_that_something_else_refuses(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    version = exam_version(client, tmp_path, 1, 30)
    promote(client, version, opening=open_if_all_else_passes(client, version, {}))
    same = exam_version(client, tmp_path, 2, 30)
    assert open_if_all_else_passes(client, same, {}) is None
    assert "the domain is not shown to be better" in promote(client, same).refusal.lower()
    assert read_ledger(client, "e" * 64).opened == 1


def test_an_opening_against_an_earlier_champion_does_not_count(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    first, second = exam_version(client, tmp_path, 1, 30), exam_version(client, tmp_path, 2, 0)
    opening = open_if_all_else_passes(client, second, {})  # there is no champion yet
    promote(client, first, reason="meanwhile")
    assert promote(client, second, opening=opening).refusal == (
        "someone else changed the champion while the sealed items were asked"
    )
