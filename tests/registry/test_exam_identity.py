"""Two exams are one only if they ask the same and judge it alike."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pyarrow.parquet as pq
import pytest

from lmadapt.core.tables import write_table
from lmadapt.evaluation.exam_identity import exam_sha256, item_sha256
from lmadapt.evaluation.predictions import PREDICTION
from lmadapt.registry.promotion import promote
from lmadapt.registry.scores import read_scores, same_items
from tests.registry.registered import champion, client, empty_registry, make_version

__all__ = ["client", "empty_registry"]  # fixtures
CHECK = {"type": "numeric", "value": 4, "tolerance": 0.5}


def item(**changes: Any) -> dict[str, Any]:
    return {
        "id": "sums/1",
        "group": "general",
        "category": "sums",
        "cluster": "two",
        "prompt": "What is 2 + 2?",
        "choices": ["4", "5"],
        "answer": 0,
        "check": "",
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "What is 2 + 3?"},
        {"choices": ["4", "6"]},
        {"answer": 1},
        {"check": json.dumps(CHECK)},
        {"answer": None, "target": "4"},
    ],
)
def test_an_item_is_what_it_asks_and_accepts(changes: dict[str, Any]) -> None:
    assert item_sha256(item(**changes)) != item_sha256(item())


def test_an_item_is_the_same_under_another_id_and_with_its_check_written_otherwise() -> None:
    other = dict(reversed(CHECK.items()))
    one = item_sha256(item(check=json.dumps(CHECK)))
    assert item_sha256(item(check=json.dumps(other, indent=1), id="x", cluster="y")) == one


def test_an_exam_is_its_items_in_any_order_and_their_groups() -> None:
    items = [
        item(),
        item(prompt="What is 3 + 3?", id="sums/2"),
        item(group="fairness", answer=None),
    ]
    known = exam_sha256(items)
    renamed = [one | {"id": f"new {place}"} for place, one in enumerate(items)]
    assert exam_sha256(reversed(renamed)) == known
    assert exam_sha256(items[:2]) == known  # fairness pairs are not judged
    for key in ("group", "category", "cluster"):
        assert exam_sha256([item() | {key: "domain"}, *items[1:]]) != known
    assert exam_sha256(items[:1]) != known
    assert exam_sha256(items, [["lm-eval", "0.4", "piqa"]]) != known


def test_other_questions_under_the_ids_of_the_champions_are_refused(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    assert promote(client, make_version(client, tmp_path, 1, domain_wrong=30)).refusal == ""
    easier = make_version(client, tmp_path, 2, domain_wrong=0, items="easier", ids="item")
    refusal = promote(client, easier).refusal
    assert "version 1, the champion, answered other items; `lmadapt promote tiny/2` asks" in refusal
    assert champion(client) == 1


def test_the_same_questions_under_other_ids_are_compared(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    first = make_version(client, tmp_path, 1, domain_wrong=30)
    second = make_version(client, tmp_path, 2, domain_wrong=0, ids="renamed")
    before, after = read_scores(client, first), read_scores(client, second)
    assert before is not None
    assert after is not None
    assert same_items(before, after)
    assert [promote(client, version).refusal for version in (first, second)] == ["", ""]


def test_predictions_without_hashes_count_as_other_items(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [name for name in PREDICTION.names if name != "content_sha256"]

    def write_as_before(rows: Any, schema: Any, target: Path) -> None:
        write_table(rows, schema, target)
        pq.write_table(pq.read_table(target).select(columns), target)

    monkeypatch.setattr("tests.adapted.write_table", write_as_before)
    promote(client, make_version(client, tmp_path, 1, domain_wrong=30))
    monkeypatch.undo()
    version = make_version(client, tmp_path, 2, domain_wrong=0)
    assert "the champion, answered other items" in promote(client, version).refusal


def test_two_items_that_ask_the_same_are_two_items(
    client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    twins = {f"item/sums/{number:03}": "f" * 64 for number in range(3)}
    version = make_version(client, tmp_path, 1, contents=twins)
    scores = read_scores(client, version)
    assert scores is not None
    assert len(set(scores.ids.tolist())) == len(scores.ids) == 460
    assert [name for name in scores.ids.tolist() if name.startswith("f" * 64)] == [
        "f" * 64,
        "f" * 64 + "#1",
        "f" * 64 + "#2",
    ]
