"""Every expectation is proven by a planted fault that it catches, on tables it passes without the fault."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmadapt import verdict
from lmadapt.data_docs import Outcome, run_suites
from lmadapt.derived_columns import derive, read_curated
from lmadapt.expectations import MIN_ITEMS, make_suites
from tests.raw_tables import Records, curate_records, judgeable_records, prose, write_curated
from tests.tiny import make_tiny_tokenizer

DOCUMENTS = ("corpus", "replay_text", "heldout_text")
CONVERSATIONS = ("instructions", "replay_instructions")
SHARING = {"near_duplicate_jaccard": 0.8, "decontaminate_ngram_words": 13}
TOLERANCE = {"max_document_tokens": 1000, "max_failing_fraction": 0.0}
TOKENIZER = make_tiny_tokenizer()


def minimums(tables: Records) -> dict[str, float]:
    """Thresholds that the tables just reach."""
    return {
        "min_corpus_documents": len(tables["corpus"]),
        "min_instructions": len(tables["instructions"]),
        "min_domain_items": 30,
        "min_general_items": 30,
        "min_items_per_category": 30,
        "min_general_categories": 1,
        "min_supervised_fraction": 0.4,
    }


@pytest.fixture(scope="module")
def sound() -> Records:
    return curate_records(judgeable_records()).tables


def check(suites: dict[str, list[Any]], frames: dict[str, pd.DataFrame], site: Path) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in run_suites(suites, frames, site)}


def first_text(rows: list[dict[str, Any]], change: Callable[[str], str]) -> None:
    """Change the text of the first row: its document, its answer or its prompt."""
    row = rows[0]
    if "messages" in row:
        row["messages"][-1]["content"] = change(row["messages"][-1]["content"])
    else:
        key = "prompt" if "prompt" in row else "text"
        row[key] = change(row[key])


def repeat_id(table: str) -> Callable[[Records], None]:
    return lambda t: t[table][0].update(id=t[table][1]["id"])


def change_text(table: str, new: Callable[[Records, str], str]) -> Callable[[Records], None]:
    return lambda t: first_text(t[table], lambda text: new(t, text))


def near_copy(table: str) -> Callable[[Records], None]:
    def fault(tables: Records) -> None:
        row, other = tables[table][:2]
        row.update({key: copy.deepcopy(other[key]) for key in ("text", "messages") if key in row})
        first_text(tables[table], lambda text: f"{text} end")

    return fault


def group_faults() -> Iterator[tuple[str, Callable[[Records], None]]]:
    for table in (*DOCUMENTS, *CONVERSATIONS, "items"):
        yield f"{table}.id_uses", repeat_id(table)
        yield f"{table}.tokens", change_text(table, lambda _, text: prose(1, 900))
    for table in DOCUMENTS:
        yield f"{table}.characters", change_text(table, lambda _, text: " \n ")
    for table in CONVERSATIONS:
        yield f"{table}.role_order_problem", lambda t, table=table: t[table][0]["messages"].pop()
        yield f"{table}.empty_message_problem", change_text(table, lambda _, text: "")
        yield f"{table}.encoding_problem", lambda t, table=table: t[table][0]["messages"].clear()
    for table in (*DOCUMENTS[:2], *CONVERSATIONS):
        yield f"{table}.heldout_twin", change_text(table, lambda t, _: t["heldout_text"][0]["text"].upper())
        yield f"{table}.near_duplicate_of", near_copy(table)
        yield f"{table}.leak", change_text(table, lambda t, text: f"{t['items'][-1]['prompt']} {text}")


FAULTS: dict[str, Callable[[Records], Any]] = dict(group_faults()) | {
    "heldout_text.group": lambda t: t["heldout_text"][0].update(group="other"),
    "items.item_problem": lambda t: t["items"][0].update(answer=9),
    "items.question": lambda t: t["items"][0].update({key: t["items"][1][key] for key in ("prompt", "choices")}),
    "categories.general_items": lambda t: t["items"].pop(),
    "categories.items": lambda t: t["items"].remove(next(i for i in t["items"] if i["group"] == "domain")),
    "categories.clusters": lambda t: [i.update(cluster="one") for i in t["items"] if i["group"] == "domain"],
    "totals.corpus_rows": lambda t: t["corpus"].pop(),
    "totals.instructions_rows": lambda t: t["instructions"].pop(),
    "totals.domain_items": lambda t: t["items"].pop(0),
    "totals.general_items": lambda t: t["items"].pop(),
    "totals.general_categories": lambda t: [item.update(group="domain") for item in t["items"]],
    "totals.supervised_fraction": lambda t: [
        row["messages"][0].update(content=prose(1, 99)) for row in t["instructions"]
    ],
    "totals.replay_text_rows": lambda t: t["replay_text"].clear(),
    "totals.replay_instructions_rows": lambda t: t["replay_instructions"].clear(),
    "totals.heldout_domain_documents": lambda t: [row.update(group="general") for row in t["heldout_text"]],
    "totals.heldout_general_documents": lambda t: [row.update(group="domain") for row in t["heldout_text"]],
}


def test_sound_tables_meet_every_expectation_and_every_expectation_has_a_fault(sound: Records, tmp_path: Path) -> None:
    frames = derive(sound, TOKENIZER, **SHARING) | {"tables": read_curated(write_curated(sound, tmp_path / "c"))[1]}
    outcomes = check(make_suites(minimums(sound), **TOLERANCE), frames, tmp_path / "site")
    assert {name for name, outcome in outcomes.items() if not outcome.success} == set()
    assert set(outcomes) == {*FAULTS, "tables.schema_problem"}


@pytest.fixture(scope="module")
def caught(sound: Records, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Each expectation's outcome on the tables with its own fault, all in one run."""
    suites, frames = {}, {}
    for name, fault in FAULTS.items():
        tables = copy.deepcopy(sound)
        fault(tables)
        frame = name.partition(".")[0]
        frames[name] = derive(tables, TOKENIZER, **SHARING)[frame]
        suites[name] = [e for e in make_suites(minimums(sound), **TOLERANCE)[frame] if e.meta["name"] == name]
    return check(suites, frames, tmp_path_factory.mktemp("site"))


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name: str, caught: dict[str, Outcome]) -> None:
    outcome = caught[name]
    assert not outcome.success
    assert not outcome.exception
    assert outcome.failing >= 1
    assert outcome.examples


@pytest.mark.parametrize("group", ["domain", "general"])
def test_items_of_both_groups_are_needed_whatever_the_settings(group: str, sound: Records, tmp_path: Path) -> None:
    tables = sound | {"items": [item for item in sound["items"] if item["group"] != group]}
    nothing = dict.fromkeys(minimums(sound), 0)
    suites = {key: suite for key, suite in make_suites(nothing, **TOLERANCE).items() if key != "tables"}
    outcomes = check(suites, derive(tables, TOKENIZER, **SHARING), tmp_path)
    assert {name for name, outcome in outcomes.items() if not outcome.success} == {f"totals.{group}_items"}


def test_a_category_needs_as_many_items_as_the_verdict_asks_for() -> None:
    assert MIN_ITEMS == verdict.MIN_ITEMS


def test_a_table_of_other_columns_is_caught(sound: Records, tmp_path: Path) -> None:
    folder = write_curated(sound, tmp_path / "curated")
    pq.write_table(pa.table({"id": [1]}), folder / "corpus.parquet")
    tables, schemas = read_curated(folder)
    assert tables["corpus"] == []
    suites = {"tables": make_suites(minimums(sound), **TOLERANCE)["tables"]}
    found = check(suites, {"tables": schemas}, tmp_path / "site")["tables.schema_problem"]
    assert (found.success, found.failing) == (False, 1)
    assert "corpus.parquet" in found.examples[0]
    assert "found id: int64" in found.examples[0] or "expected id: string" in found.examples[0]


def test_a_failing_fraction_is_tolerated_in_rows_but_not_in_leaks(sound: Records, tmp_path: Path) -> None:
    tables = copy.deepcopy(sound)
    FAULTS["corpus.characters"](tables)
    tables["corpus"][1]["text"] += f" {tables['items'][-1]['prompt']}"
    for fraction, fails in ((0.0, {"corpus.characters", "corpus.leak"}), (0.1, {"corpus.leak"})):
        suites = make_suites(minimums(sound), **TOLERANCE | {"max_failing_fraction": fraction})
        frames = derive(tables, TOKENIZER, **SHARING)
        outcomes = check({"corpus": suites["corpus"]}, frames, tmp_path / str(fraction))
        assert {name for name, outcome in outcomes.items() if not outcome.success} == fails


@pytest.mark.parametrize(
    ("setting", "value", "name"),
    [
        ("min_corpus_documents", 99, "totals.corpus_rows"),
        ("min_instructions", 99, "totals.instructions_rows"),
        ("min_domain_items", 31, "totals.domain_items"),
        ("min_general_items", 31, "totals.general_items"),
        ("min_items_per_category", 31, "categories.general_items"),
        ("min_general_categories", 2, "totals.general_categories"),
        ("min_supervised_fraction", 0.9, "totals.supervised_fraction"),
        ("max_document_tokens", 100, "corpus.tokens"),
    ],
)
def test_each_threshold_decides(setting: str, value: float, name: str, sound: Records, tmp_path: Path) -> None:
    settings = minimums(sound) | TOLERANCE | {setting: value}
    tolerance = {key: settings.pop(key) for key in TOLERANCE}
    frame = name.partition(".")[0]
    suites = {frame: make_suites(settings, **tolerance)[frame]}
    outcomes = check(suites, derive(sound, TOKENIZER, **SHARING), tmp_path)
    assert {key for key, outcome in outcomes.items() if not outcome.success} == {name}
