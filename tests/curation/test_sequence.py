from itertools import chain, product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmadapt.core.errors import UserError
from tests.raw_tables import (
    curate_records,
    decision,
    document,
    ids,
    instruction,
    prose,
    raw_records,
)


@pytest.fixture(scope="module")
def clean() -> Any:
    return curate_records(raw_records())


def test_every_raw_row_has_exactly_one_decision(clean: Any) -> None:
    raw = [row["id"] for row in chain(*raw_records().values())]
    assert [row["id"] for row in clean.tables["decisions"]] == raw


def test_the_split_of_a_decision_is_the_table_that_holds_the_row(clean: Any) -> None:
    for table, rows in clean.tables.items():
        if table != "decisions":
            assert {row["id"] for row in clean.tables["decisions"] if row["split"] == table} == {
                row["id"] for row in rows
            }


def test_curation_is_deterministic(clean: Any) -> None:
    assert curate_records(raw_records()) == clean


def test_repaired_text_is_edited_and_kept() -> None:
    records = raw_records()
    records["corpus"][3]["text"] += " schÃ¶n\x00"
    curated = curate_records(records)
    found = decision(curated, "corpus/3")
    assert (found["outcome"], found["rule"], found["split"]) == ("edited", "mojibake", "corpus")
    assert next(row for row in curated.tables["corpus"] if row["id"] == "corpus/3")[
        "text"
    ].endswith(" schön")
    assert curated.metrics["rows"]["corpus"]["edited_by"] == {"mojibake": 1}


@pytest.mark.parametrize(
    ("text", "rule"),
    [("hi", "min_words"), ("", "min_words"), ("12 34 56 78 90 ab", "min_alphabetic_fraction")],
)
def test_a_document_that_fails_a_filter_is_dropped_with_its_reason(text: str, rule: str) -> None:
    records = raw_records()
    records["corpus"].append(document("corpus/bad", text))
    curated = curate_records(records)
    assert decision(curated, "corpus/bad")["rule"] == rule
    assert "<" in decision(curated, "corpus/bad")["evidence"]
    assert curated.metrics["rows"]["corpus"]["dropped_by"] == {rule: 1}


def test_short_answers_are_kept_and_empty_ones_dropped() -> None:
    records = raw_records()
    records["instructions"] += [
        instruction("ask/short", "What is the capital of France?", "Paris"),
        instruction("ask/sum", "What is 12 * 11?", "132"),
        instruction("ask/empty", "What is the capital of Spain?", " "),
        instruction("ask/order", "a question", "an answer")
        | {"messages": [{"role": "user", "content": "only me"}]},
    ]
    curated = curate_records(records)
    assert {"ask/short", "ask/sum"} <= ids(curated, "instructions")
    assert decision(curated, "ask/empty")["rule"] == "empty_completion"
    assert decision(curated, "ask/order")["rule"] == "role_order"


def test_personal_data_is_replaced_and_the_evidence_does_not_show_it() -> None:
    records = raw_records()
    records["corpus"][3]["text"] += " Ask jane.roe@example.org or 192.0.2.17."
    records["instructions"][0]["messages"][1]["content"] += " Write to joe@example.org."
    curated = curate_records(records)
    found = decision(curated, "corpus/3")
    assert (found["rule"], found["evidence"]) == (
        "personal_data",
        "personal data: 1 EMAIL, 1 IP_ADDRESS",
    )
    texts = {row["id"]: row["text"] for row in curated.tables["corpus"]}
    assert texts["corpus/3"].endswith("Ask <EMAIL> or <IP_ADDRESS>.")
    answers = {row["id"]: row["messages"][1]["content"] for row in curated.tables["instructions"]}
    assert answers["ask/10"].endswith("Write to <EMAIL>.")
    unmasked = curate_records(records, personal_data=["ip_addresses"])
    assert decision(unmasked, "corpus/3")["evidence"] == "personal data: 1 IP_ADDRESS"


def test_a_line_that_many_documents_of_a_source_have_is_removed() -> None:
    records = raw_records()
    for row in records["corpus"][:12]:
        row["text"] = f"Copyright of somebody, all rights reserved\n{row['text']}"
    curated = curate_records(records, boilerplate_fraction=0.3)
    assert decision(curated, "corpus/0")["rule"] == "boilerplate"
    assert "1 lines that many documents of tests have" in decision(curated, "corpus/0")["evidence"]
    assert not any(
        "Copyright" in row["text"]
        for row in curated.tables["corpus"] + curated.tables["heldout_text"]
    )
    assert decision(curated, "corpus/20")["outcome"] == "kept"


def test_documents_in_other_languages_are_dropped_on_request() -> None:
    records = raw_records()
    english = (
        "This is an English entry about a weakness of programs that read more of the input "
        "than they have room for."
    )
    records["corpus"] += [
        document("corpus/en", english),
        document("corpus/zh", "这是一段关于程序弱点的中文文字、说的是缓冲区溢出。"),
    ]
    found = decision(
        curate_records(records, languages=["en"], min_language_confidence=0.5), "corpus/zh"
    )
    assert found["rule"] == "language"
    assert found["evidence"].startswith("zh with confidence ")
    kept = curate_records(records, languages=["en", "zh"], min_language_confidence=0.5)
    assert (
        decision(kept, "corpus/zh")["outcome"] == decision(kept, "corpus/en")["outcome"] == "kept"
    )


def test_bad_records_are_decisions_and_more_than_allowed_stop() -> None:
    bad = [
        {"id": "f/2", "role": "corpus", "problem": "f:2: no JSON", "source": "f", "location": "2"}
    ]
    curated = curate_records(raw_records(), bad=bad, max_bad_records=0.1)
    assert (decision(curated, "f/2")["rule"], decision(curated, "f/2")["evidence"]) == (
        "bad_record",
        "f:2: no JSON",
    )
    assert curated.metrics["rows"]["corpus"]["raw"] == 31
    with pytest.raises(
        UserError, match=r"corpus: 1 of 31 records cannot be read.*\n- f:2: no JSON"
    ):
        curate_records(raw_records(), bad=bad)


def test_the_number_of_processes_changes_nothing(
    clean: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmadapt.core.tables.GROUP_ROWS", 9)
    monkeypatch.setattr("lmadapt.curation.parallel.GROUPS_A_PROCESS", 1)
    assert curate_records(raw_records(), processes=2) == clean


ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANY_TEXT, max_size=4), st.lists(ANY_TEXT, min_size=2, max_size=2))
def test_any_unicode_text_gets_exactly_one_decision(texts: list[str], turns: list[str]) -> None:
    records = raw_records()
    records["corpus"] += [document(f"corpus/any{n}", text) for n, text in enumerate(texts)]
    records["instructions"].append(instruction("ask/any", *turns))
    curated = curate_records(records)
    raw = sorted(row["id"] for row in chain(*records.values()))
    assert sorted(row["id"] for row in curated.tables["decisions"]) == raw


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("min_words", 18),
        ("max_words", 59),
        ("min_alphabetic_fraction", 0.8),
        ("max_repeated_line_fraction", 0.0),
        ("near_duplicate_jaccard", 0.95),
        ("decontaminate_ngram_words", 5),
        ("heldout_fraction", 0.2),
        ("seed", 1),
    ],
)
def test_every_setting_changes_the_outcome(setting: str, value: float) -> None:
    records = raw_records()
    records["corpus"].append(document("corpus/near", f"{prose(11)} {prose(60, 5)}"))
    records["corpus"].append(
        document(
            "corpus/lines", "\n".join([prose(61, 9), prose(62, 9), prose(63, 9), prose(61, 9)])
        )
    )
    records["corpus"].append(document("corpus/figures", f"{prose(65, 9)} 12345 67890 12345 67890"))
    records["general_text"].append(
        document("text/run", prose(64) + " ".join(records["evaluation"][1]["prompt"].split()[1:]))
    )
    before, after = curate_records(records), curate_records(records, **{setting: value})
    changed = [
        a["id"]
        for a, b in zip(before.tables["decisions"], after.tables["decisions"], strict=True)
        if a != b
    ]
    assert changed
    if setting not in ("heldout_fraction", "seed"):
        rules = {
            decision(curated, name)["rule"] for curated, name in product((before, after), changed)
        }
        names = {"near_duplicate_jaccard": "near_duplicate", "decontaminate_ngram_words": "leak"}
        assert names.get(setting, setting) in rules


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(UserError, match=r"corpus\.parquet: no documents.*fetch\.sources\.corpus"):
        curate_records(raw_records() | {"corpus": []})


def test_an_error_names_the_rule_that_removed_most_when_no_row_is_left() -> None:
    with pytest.raises(
        UserError,
        match=r"none of 30 rows is left; the rule `min_words` removed most, 30, .* < 500",
    ):
        curate_records(raw_records(), min_words=500)


def test_two_rows_with_one_id_are_refused_with_both_places() -> None:
    records = raw_records()
    records["instructions"][0]["id"] = "corpus/4"
    with pytest.raises(
        UserError,
        match="two rows have the id 'corpus/4': tests at corpus/4 and tests at ask/10",
    ):
        curate_records(records)


def test_empty_replay_is_allowed() -> None:
    curated = curate_records(raw_records() | {"general_text": [], "general_instructions": []})
    assert curated.tables["replay_text"] == curated.tables["replay_instructions"] == []
