import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lmadapt.core.tables import ITEM, write_table
from lmadapt.evaluation.answer_cache import AnswerCache
from lmadapt.evaluation.answers import answer_exam
from lmadapt.evaluation.exam import make_exam
from lmadapt.evaluation.exam_identity import item_sha256
from lmadapt.evaluation.variants import CachedModel
from lmadapt.registry.connection import connect
from lmadapt.registry.promotion import promote
from lmadapt.registry.rescoring import scores_on_items_of
from lmadapt.registry.verify import load_version
from lmadapt.registry.versions import named_version
from tests.adapted import make_adapted_project, run_register, write_evaluation, write_predictions


def stored(objects: Path, content: bytes, suffix: str = "") -> str:
    """Put an object into a store as DVC does; its MD5."""
    md5 = hashlib.md5(content).hexdigest() + suffix
    (objects / "files/md5" / md5[:2]).mkdir(parents=True, exist_ok=True)
    (objects / "files/md5" / md5[:2] / md5[2:]).write_bytes(content)
    return md5


def other_items() -> list[dict[str, Any]]:
    """Items other than those of write_predictions, in the same groups and categories."""
    rows = []
    for category, group, count in (
        ("weaknesses", "domain", 60),
        ("capitals", "general", 200),
        ("sums", "general", 200),
    ):
        for number in range(count):
            item = dict.fromkeys(ITEM.names, "") | {"group": group, "category": category}
            item |= {"id": f"other/{category}/{number:03}", "prompt": f"What is {number}?"}
            choices = [f"number {number}", f"the query {number * 7}"]
            rows.append(item | {"choices": choices, "answer": number % 2})
    return rows


def test_a_champion_that_answered_other_items_is_asked_those_of_the_version(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    project = make_adapted_project(tmp_path / "project", tiny_model)
    monkeypatch.chdir(project)
    run_register()
    rows = other_items()
    write_table(rows, ITEM, tmp_path / "items.parquet")
    md5 = stored(tmp_path / "store", (tmp_path / "items.parquet").read_bytes())
    listing = json.dumps([{"md5": md5, "relpath": "items.parquet"}]).encode()
    folder = stored(tmp_path / "store", listing, ".dir")
    curate = {"outs": [{"path": "data/curated", "md5": folder}]}
    YAML().dump({"stages": {"curate": curate}}, Path("dvc.lock"))
    stores = [str(tmp_path / "store")]
    monkeypatch.setattr("lmadapt.registry.registration.store_addresses", lambda _: stores)
    contents = {row["id"]: item_sha256(row) for row in rows}
    write_predictions(project, domain_wrong=0, general_wrong=0, items="other", contents=contents)
    write_evaluation(project, "SHIP", reason="another evaluation.")
    registered = run_register()
    assert (registered["version"], registered["aliases"]) == (2, ["candidate"])
    client = connect("sqlite:///mlflow.db", project)
    version = named_version(client, "tiny/2")
    assert "answered other items" in promote(client, version).refusal
    asked = scores_on_items_of(client, version)
    model, tokenizer = load_version(named_version(client, "tiny/1"))
    exam = make_exam(rows, [], tokenizer, heldout_tokens=0, seed=0)
    cached = CachedModel(lambda: model, AnswerCache(Path(":memory:"), "champion"))
    answers = answer_exam(
        cached, tokenizer, exam, name="champion", batch_tokens=2048, max_new_tokens=1
    )
    assert list(asked) == ["1"]
    answered = [item_sha256(item) for item in exam.items]
    by_content = dict(zip(answered, answers.scores.tolist(), strict=True))
    # Each question is in three categories: the same content, so the same answer.
    pairs = zip(asked["1"].ids.tolist(), asked["1"].scores.tolist(), strict=True)
    assert {name.partition("#")[0]: score for name, score in pairs} == by_content
    assert asked["1"].ids.tolist() == sorted(set(asked["1"].ids.tolist()))
    assert promote(client, version, asked=asked).refusal == ""
    assert scores_on_items_of(client, version) == {}
