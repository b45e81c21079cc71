"""Every expectation is proven by a planted fault that it, and only it, catches."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmadapt.core.errors import UserError
from lmadapt.models.chat import PLAIN_TEMPLATE
from lmadapt.validation.data_docs import ExpectationResult, run_suites
from lmadapt.validation.expectations import MIN_ITEMS, Limits, Suites, drift_frame, make_suites
from lmadapt.validation.measured_tables import measure_tables
from lmadapt.validation.own_expectations import add_own
from lmadapt.verdict import decision
from tests.raw_tables import (
    MEASURING,
    Records,
    curate_records,
    judgeable_records,
    measured_frames,
    prose,
    write_curated,
)
from tests.tiny import make_tiny_tokenizer

DOCUMENTS = ("corpus", "replay_text", "heldout_text")
CONVERSATIONS = ("instructions", "replay_instructions")
TOKENIZER = make_tiny_tokenizer()
TOKENIZER.chat_template = (
    "{% if 'unspeakable' in messages | string %}{{ raise_exception('no') }}{% endif %}"
    + PLAIN_TEMPLATE
)
ENGLISH = (
    "This is an entry about the weakness of a program that reads more of the input than it has "
    "room for, which was found by the people who wrote it and who have since then told everybody "
    "else what should be done about it"
)
CHINESE = (
    "\u8fd9\u662f\u4e00\u6bb5\u5173\u4e8e\u7a0b\u5e8f\u5f31\u70b9\u7684\u4e2d\u6587\u6587\u5b57" * 3
)


def limits(tables: Records, **changes: float) -> Limits:
    """Limits that the tables just reach, with changes."""
    just = {
        "min_corpus_documents": len(tables["corpus"]),
        "min_instructions": len(tables["instructions"]),
        "min_domain_items": 30,
        "min_general_items": 30,
        "min_items_per_category": 30,
        "min_general_categories": 1,
        "min_supervised_fraction": 0.4,
        "min_replay_text_fraction": 0.1,
        "min_replay_instructions_fraction": 0.05,
        "max_document_tokens": 1000,
        "max_failing_fraction": 0.0,
        "max_drift": 3.0,
    }
    return Limits.model_validate(just | changes)


@pytest.fixture(scope="module")
def sound() -> Records:
    records = judgeable_records()
    for row in records["corpus"]:
        row["text"] = f"{ENGLISH}. {row['text']}"
    return curate_records(records).tables


@pytest.fixture(scope="module")
def baseline(sound: Records) -> dict[str, Any]:
    return {"sizes": measured_frames(sound, TOKENIZER)["sizes"].set_index("id").to_dict("index")}


def frames_of(tables: Records, baseline: dict[str, Any]) -> dict[str, pd.DataFrame]:
    frames = measured_frames(tables, TOKENIZER, languages=["en"], min_language_confidence=0.0)
    return frames | {"drift": drift_frame(frames["sizes"], baseline)}


@pytest.fixture(scope="module")
def sound_frames(sound: Records, baseline: dict[str, Any]) -> dict[str, pd.DataFrame]:
    return frames_of(sound, baseline)


def check(
    suites: Suites, frames: dict[str, pd.DataFrame], site: Path
) -> dict[str, ExpectationResult]:
    return {result.name: result for result in run_suites(suites, frames, site)}


def failing(results: dict[str, ExpectationResult]) -> set[str]:
    assert not [result.exception for result in results.values() if result.exception]
    return {name for name, result in results.items() if not result.success}


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


def answer(table: str, new: str) -> Callable[[Records], None]:
    return lambda t: t[table][0]["messages"][-1].update(content=new)


def group_faults() -> Iterator[tuple[str, Callable[[Records], None]]]:
    for table in (*DOCUMENTS, *CONVERSATIONS, "items"):
        yield f"{table}.id_uses", repeat_id(table)
        yield f"{table}.tokens", change_text(table, lambda _, text: f"{text} {prose(1, 170)}")
    for table in DOCUMENTS:
        yield f"{table}.characters", change_text(table, lambda _, text: " \n ")
    for table in CONVERSATIONS:
        yield (
            f"{table}.role_order_problem",
            lambda t, table=table: t[table][0]["messages"].insert(
                0, {"role": "user", "content": "hm"}
            ),
        )
        yield f"{table}.empty_message_problem", change_text(table, lambda _, text: "")
        yield (
            f"{table}.encoding_problem",
            answer(table, "It is unspeakable, and so nobody will ever say it aloud."),
        )
    for table in (*DOCUMENTS[:2], *CONVERSATIONS):
        yield (
            f"{table}.heldout_overlap",
            change_text(table, lambda t, _: t["heldout_text"][0]["text"].upper()),
        )
        yield f"{table}.near_duplicate_of", near_copy(table)
        yield (
            f"{table}.leak",
            change_text(table, lambda t, text: f"{t['items'][-1]['prompt']} {text}"),
        )
        yield (
            f"{table}.personal_data",
            change_text(table, lambda t, text: f"{text} jane.roe@example.org"),
        )


FAULTS: dict[str, Callable[[Records], Any]] = dict(group_faults()) | {
    "tables.schema_problem": lambda t: None,  # planted in the file, see below
    "corpus.language_problem": change_text("corpus", lambda t, text: CHINESE),
    "heldout_text.group": lambda t: t["heldout_text"][0].update(group="other"),
    "items.item_problem": lambda t: t["items"][0].update(answer=9),
    "items.question": lambda t: t["items"][0].update(
        {key: t["items"][1][key] for key in ("prompt", "choices")}
    ),
    "categories.general_items": lambda t: None,  # by its threshold, see below
    "categories.items": lambda t: t["items"].extend(
        t["items"][0]
        | {"id": f"x{n}", "category": "small", "cluster": f"x{n}", "prompt": f"What is {n}?"}
        for n in (1, 2)
    ),
    "categories.clusters": lambda t: [
        i.update(cluster="one") for i in t["items"] if i["group"] == "domain"
    ],
    "totals.corpus_rows": lambda t: t["corpus"].pop(),
    "totals.instructions_rows": lambda t: t["instructions"].pop(),
    "totals.domain_items": lambda t: None,
    "totals.general_items": lambda t: None,
    "totals.general_categories": lambda t: None,
    "totals.supervised_fraction": lambda t: None,
    "totals.replay_text_fraction": lambda t: None,
    "totals.replay_instructions_fraction": lambda t: None,
    "totals.heldout_domain_documents": lambda t: [
        row.update(group="general") for row in t["heldout_text"]
    ],
    "totals.heldout_general_documents": lambda t: [
        row.update(group="domain") for row in t["heldout_text"]
    ],
    "drift.rows": lambda t: None,
    "drift.tokens_per_row": lambda t: None,
    "drift.vocabulary": lambda t: None,
}
# Totals are caught by their thresholds: what the sound tables have is too little for these.
THRESHOLDS = {
    "categories.general_items": {"min_items_per_category": 31},
    "totals.domain_items": {"min_domain_items": 31},
    "totals.general_items": {"min_general_items": 31},
    "totals.general_categories": {"min_general_categories": 2},
    "totals.supervised_fraction": {"min_supervised_fraction": 0.99},
    "totals.replay_text_fraction": {"min_replay_text_fraction": 0.9},
    "totals.replay_instructions_fraction": {"min_replay_instructions_fraction": 0.9},
}


def test_a_planted_fault_is_caught_by_its_expectation_and_no_other(
    sound: Records, baseline: dict[str, Any], sound_frames: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    """All faults are checked in one run; a frame that a fault leaves alone is not checked."""
    suites: Suites = {}
    checked: dict[str, pd.DataFrame] = {}
    for name, fault in FAULTS.items():
        tables, before = copy.deepcopy(sound), copy.deepcopy(baseline)
        fault(tables)
        frame, _, column = name.partition(".")
        if frame == "drift":
            before["sizes"]["corpus"][column] *= 0.2
        frames = sound_frames if tables == sound and frame != "drift" else frames_of(tables, before)
        if name == "tables.schema_problem":
            folder = write_curated(sound, tmp_path)
            pq.write_table(pa.table({"id": [1]}), folder / "decisions.parquet")
            frames = frames | {"tables": measure_tables(folder, TOKENIZER, **MEASURING)["tables"]}
        changed = limits(sound, **THRESHOLDS.get(name, {}))
        for other, suite in make_suites(changed).items():
            if other == frame or not frames[other].equals(sound_frames[other]):
                suites[f"{name}|{other}"], checked[f"{name}|{other}"] = suite, frames[other]
    results = iter(run_suites(suites, checked, None))
    failed: dict[str, list[ExpectationResult]] = {name: [] for name in FAULTS}
    for key, suite in suites.items():
        failed[key.partition("|")[0]] += [
            result for result in (next(results) for _ in suite) if not result.success
        ]
    assert {name: [result.name for result in found] for name, found in failed.items()} == {
        n: [n] for n in FAULTS
    }
    for (result,) in failed.values():
        assert not result.exception
        assert result.failing >= 1
        assert result.examples


def test_sound_tables_meet_every_expectation_and_every_expectation_has_a_fault(
    sound: Records, sound_frames: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    results = check(make_suites(limits(sound)), sound_frames, tmp_path)
    assert failing(results) == set()
    assert set(results) == set(FAULTS)
    assert {result.severity for result in results.values()} == {"error", "warning"}


@pytest.mark.parametrize("group", ["domain", "general"])
def test_items_of_both_groups_are_needed_whatever_the_settings(
    group: str, sound: Records, tmp_path: Path
) -> None:
    tables = sound | {"items": [item for item in sound["items"] if item["group"] != group]}
    minimums = [name for name in Limits.model_fields if name.startswith("min_")]
    none = dict.fromkeys(minimums, 0) | {"min_corpus_documents": 1}
    suites = make_suites(limits(sound, **none))
    assert failing(check(suites, frames_of(tables, {}), tmp_path)) == {f"totals.{group}_items"}


def test_a_category_needs_as_many_items_as_the_verdict_asks_for() -> None:
    assert MIN_ITEMS == decision.MIN_ITEMS


def test_a_failing_fraction_is_tolerated_in_rows_but_not_in_leaks(
    sound: Records, tmp_path: Path
) -> None:
    tables = copy.deepcopy(sound)
    FAULTS["corpus.characters"](tables)
    tables["corpus"][1]["text"] += f" {tables['items'][-1]['prompt']}"
    frames = measured_frames(tables, TOKENIZER)
    for fraction, fails in ((0.0, {"corpus.characters", "corpus.leak"}), (0.1, {"corpus.leak"})):
        suites = make_suites(limits(sound, max_failing_fraction=fraction))
        assert (
            failing(check({"corpus": suites["corpus"]}, frames, tmp_path / str(fraction))) == fails
        )


@pytest.mark.parametrize(
    ("setting", "value", "name"),
    [
        ("min_corpus_documents", 99, "totals.corpus_rows"),
        ("min_instructions", 99, "totals.instructions_rows"),
        ("max_document_tokens", 100, "corpus.tokens"),
        ("max_drift", 0.01, "drift.rows"),
    ],
)
def test_each_threshold_decides(
    setting: str, value: float, name: str, sound: Records, baseline: dict[str, Any], tmp_path: Path
) -> None:
    frame = name.partition(".")[0]
    baseline = copy.deepcopy(baseline)
    baseline["sizes"]["corpus"]["rows"] += 1
    suites = {frame: make_suites(limits(sound, **{setting: value}))[frame]}
    assert failing(check(suites, frames_of(sound, baseline), tmp_path)) == {name}


OWN = """
corpus.tokens: {max_failing_fraction: 0.5, severity: warning}
items.no_tests:
  type: expect_column_values_to_not_match_regex
  arguments: {column: source, regex: tests}
  description: items come from elsewhere
  max_failing_fraction: 0.01
  severity: error
"""


def test_a_file_of_the_project_changes_expectations_and_adds_some(
    sound: Records, tmp_path: Path
) -> None:
    suites = make_suites(limits(sound))
    (tmp_path / "own.yaml").write_text(OWN)
    add_own(suites, tmp_path / "own.yaml")
    frames = measured_frames(sound, TOKENIZER)
    results = check(
        {"items": suites["items"], "corpus": suites["corpus"][:2]}, frames, tmp_path / "site"
    )
    assert (results["corpus.tokens"].severity, results["corpus.tokens"].max_failing_fraction) == (
        "warning",
        0.5,
    )
    added = results["items.no_tests"]
    assert (added.success, added.failing, added.severity, added.max_failing_fraction) == (
        False,
        60,
        "error",
        0.01,
    )
    assert (
        "60 of 60 rows fail (1.0% may); expected: items come from elsewhere; for example tests at "
        in str(added)
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "corpus.tokns: {severity: warning}",
            "corpus.tokns: not an expectation of ours, and `type` is missing to make one; ours: ",
        ),
        (
            "corpse.x: {type: expect_column_values_to_be_unique}",
            "corpse.x: must start with a table; allowed: tables, ",
        ),
        ("corpus.x: {type: expect_magic}", "corpus.x: "),
        (
            "corpus.tokens: {severity: fatal}",
            "corpus.tokens.severity: Input should be 'error' or 'warning'",
        ),
        ("corpus.tokens: {severty: error}", "unknown key; did you mean `severity`?"),
    ],
)
def test_a_mistake_in_the_projects_file_is_named(
    entry: str, message: str, sound: Records, tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(entry)
    with pytest.raises(UserError) as error:
        add_own(make_suites(limits(sound)), tmp_path / "own.yaml")
    assert message in str(error.value)
    assert "own.yaml" in str(error.value)
