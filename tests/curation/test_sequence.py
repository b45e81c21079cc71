from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmadapt.core.errors import UserError
from tests.curation.test_near_duplicates import brute_force_jaccard
from tests.raw_tables import (
    curate_records,
    decision,
    document,
    ids,
    instruction,
    item,
    prose,
    raw_records,
)


@pytest.fixture(scope="module")
def clean() -> Any:
    return curate_records(raw_records())


def test_every_raw_row_has_exactly_one_decision(clean: Any) -> None:
    raw = [row["id"] for rows in raw_records().values() for row in rows]
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


def test_exact_duplicates_up_to_case_and_spacing_leave_one() -> None:
    records = raw_records()
    records["corpus"].append(
        document("corpus/copy", prose(5).upper().replace(" ", "  "), "thing 5")
    )
    curated = curate_records(records)
    dropped = [row for row in curated.tables["decisions"] if row["rule"] == "exact_duplicate"]
    assert {(row["id"], row["duplicate_of"]) for row in dropped} == {("corpus/5", "corpus/copy")}, (
        "the longest is kept"
    )


def test_near_duplicates_keep_the_longest_and_corpus_wins_over_replay() -> None:
    records = raw_records()
    records["corpus"].append(document("corpus/longer", f"{prose(5)} And a little more.", "thing 5"))
    records["general_text"].append(
        document("text/near", f"{prose(6)} And then some more of it.", "topic 3")
    )
    curated = curate_records(records)
    assert decision(curated, "corpus/5")["rule"] == "near_duplicate"
    assert decision(curated, "corpus/5")["duplicate_of"] == "corpus/longer"
    assert decision(curated, "corpus/5")["evidence"].startswith("Jaccard 0.9")
    assert decision(curated, "text/near")["duplicate_of"] == "corpus/6"


def test_a_replayed_instruction_that_is_an_instruction_is_dropped() -> None:
    records = raw_records()
    question, answer = (message["content"] for message in records["instructions"][4]["messages"])
    records["general_instructions"].append(instruction("chat/copy", question, answer))
    kept = records["instructions"][4]["id"]
    found = decision(curate_records(records, heldout_fraction=0.0), "chat/copy")
    assert (found["rule"], found["duplicate_of"]) == ("exact_duplicate", kept)


def test_leaks_are_dropped_from_every_training_role_and_counted_by_category() -> None:
    records = raw_records()
    prompt = records["evaluation"][12]["prompt"]
    records["corpus"].append(document("corpus/leak", f"{prose(41)} {prompt} {prose(42)}"))
    records["general_text"].append(document("text/leak", f"{prose(43)} {prompt}"))
    records["instructions"].append(instruction("ask/leak", prompt, "Some answer"))
    records["general_instructions"].append(instruction("chat/leak", prompt, "Another answer"))
    curated = curate_records(records)
    for name in ("corpus/leak", "text/leak", "ask/leak", "chat/leak"):
        assert decision(curated, name)["rule"] == "leak"
        assert decision(curated, name)["evidence"].startswith("question of item general/2: who is ")
    found = curated.metrics["leaks"]["general/general facts"]
    roles = ("corpus", "general_text", "instructions", "general_instructions")
    assert found == {role: {"documents": 1, "questions": 1} for role in roles}


def test_an_item_may_give_way_instead_and_is_counted() -> None:
    records = raw_records()
    prompt = records["evaluation"][12]["prompt"]
    records["general_text"].append(document("text/leak", f"{prose(43)} {prompt}"))
    curated = curate_records(records, on_leak="drop_item")
    assert decision(curated, "text/leak")["split"] == "replay_text"
    item = decision(curated, "general/2")
    assert (item["outcome"], item["rule"]) == ("dropped", "leaked_item")
    assert item["evidence"].startswith("general_text text/leak holds its question: who is ")
    assert "general/2" not in ids(curated, "items")
    assert curated.metrics["rows"]["evaluation"]["dropped_by"] == {"leaked_item": 1}


def test_personal_data_is_replaced_and_told_without_being_shown() -> None:
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


def test_a_line_many_documents_of_a_source_have_is_removed() -> None:
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


def test_documents_of_other_languages_are_dropped_where_asked() -> None:
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


def test_instructions_of_a_category_are_capped() -> None:
    curated = curate_records(raw_records(), max_instructions_per_category=5)
    assert len(curated.tables["instructions"]) == 5
    assert len(curated.tables["replay_instructions"]) == 10
    assert curated.metrics["rows"]["instructions"]["dropped_by"]["category_cap"] == 12


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


def test_lengths_are_told_for_every_table(clean: Any) -> None:
    sizes = clean.metrics["tables"]["instructions"]
    assert sizes["words_quantiles"] == [19.0, 19.0, 19.0, 19.0, 19.0]
    assert sizes["answer_words_quantiles"] == [12.0] * 5


def test_processes_change_nothing(clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmadapt.core.tables.GROUP_ROWS", 9)
    monkeypatch.setattr("lmadapt.curation.parallel.GROUPS_A_PROCESS", 1)
    assert curate_records(raw_records(), processes=2) == clean


ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANY_TEXT, max_size=4), st.lists(ANY_TEXT, min_size=2, max_size=2))
def test_any_unicode_text_passes_and_every_input_has_exactly_one_decision(
    texts: list[str], turns: list[str]
) -> None:
    records = raw_records()
    records["corpus"] += [document(f"corpus/any{n}", text) for n, text in enumerate(texts)]
    records["instructions"].append(instruction("ask/any", *turns))
    curated = curate_records(records)
    raw = sorted(row["id"] for rows in records.values() for row in rows)
    assert sorted(row["id"] for row in curated.tables["decisions"]) == raw


def test_no_entity_of_an_item_is_trained_on_outside_the_corpus() -> None:
    records = raw_records()
    records["general_instructions"].append(
        instruction("chat/asked", "A question of some words", "yes", "fact 55")
    )
    records["general_text"].append(document("text/asked", prose(50), "fact 55"))
    records["instructions"].append(
        instruction("ask/asked", "Another question of some words", "no", "thing 3")
    )
    curated = curate_records(records)
    for name, asking in (
        ("chat/asked", "general/5"),
        ("text/asked", "general/5"),
        ("ask/asked", "item/3"),
    ):
        assert decision(curated, name)["rule"] == "evaluation_entity"
        assert asking in decision(curated, name)["evidence"]
    assert {f"corpus/{n}" for n in range(10)} <= ids(curated, "corpus"), (
        "facts of domain items stay in the corpus"
    )


def test_held_out_entities_are_in_no_training_table(clean: Any) -> None:
    heldout = {row["entity"] for row in clean.tables["heldout_text"]}
    assert {row["group"] for row in clean.tables["heldout_text"]} == {"domain", "general"}
    for table in ("corpus", "replay_text", "instructions", "replay_instructions"):
        assert clean.tables[table]
        assert not heldout & {row["entity"] for row in clean.tables[table]}
    dropped = [row for row in clean.tables["decisions"] if row["rule"] == "heldout_entity"]
    assert len(dropped) == 3, "a tenth of 30 entities, each with one instruction"
    assert clean.metrics["heldout_entities"] == 4
    assert clean.metrics["heldout_entities_with_items"] == 0


def test_entities_with_items_are_held_out_only_when_others_do_not_suffice() -> None:
    curated = curate_records(raw_records() | {"instructions": []}, heldout_fraction=0.8)
    assert curated.metrics["heldout_entities_with_items"] == 4, (
        "24 of 30 entities, of which 20 have no items"
    )


def test_no_training_text_of_any_role_is_a_near_duplicate_of_held_out_text() -> None:
    records = raw_records()
    heldout = sorted(ids(curate_records(records), "heldout_text"))
    copies = {
        name: next(
            r["text"] for r in records["corpus"] + records["general_text"] if r["id"] == name
        )
        for name in heldout
    }
    for n, text in enumerate(copies.values()):
        records["instructions"].append(
            instruction(f"ask/copy{n}", "Repeat after me, please:", text)
        )
        records["general_instructions"].append(instruction(f"chat/copy{n}", text, "yes"))
    curated = curate_records(records)
    assert ids(curated, "heldout_text") == set(heldout)
    for n in range(len(copies)):
        assert decision(curated, f"ask/copy{n}")["rule"] == "heldout_overlap"
        assert decision(curated, f"chat/copy{n}")["duplicate_of"] in heldout


def test_documents_of_one_near_duplicate_cluster_never_stand_on_both_sides() -> None:
    records = raw_records()
    for n in range(30):
        records["corpus"].append(
            document(f"corpus/near{n}", f"{prose(n)} Tail number {n}.", f"other {n}")
        )
    curated = curate_records(records, heldout_fraction=0.3)
    sides = [[row["text"] for row in curated.tables[table]] for table in ("heldout_text", "corpus")]
    assert max(brute_force_jaccard(one, other) for one in sides[0] for other in sides[1]) < 0.8


def test_documents_without_entity_are_held_out_one_by_one() -> None:
    records = raw_records()
    for row in records["corpus"]:
        row["entity"] = ""
    curated = curate_records(records)
    assert sum(row["group"] == "domain" for row in curated.tables["heldout_text"]) == 3


def test_broken_and_repeated_items_are_dropped_with_reasons() -> None:
    records = raw_records()
    first = records["evaluation"][0]
    records["evaluation"] += [
        first | {"id": "item/again", "prompt": first["prompt"].upper()},
        first | {"id": "item/other-group", "group": "general"},
        item("item/broken", "What?", "this") | {"answer": 7},
    ]
    curated = curate_records(records)
    again = decision(curated, "item/again")
    assert (again["rule"], again["duplicate_of"]) == ("duplicate_item", "item/0")
    assert decision(curated, "item/other-group")["split"] == "items"
    assert decision(curated, "item/broken")["evidence"] == "answer 7 is not an index into 2 choices"


def test_the_funnel_never_widens_and_ends_with_the_tables(clean: Any) -> None:
    corpus = [point.rows for point in clean.funnel if point.role == "corpus"]
    assert corpus == sorted(corpus, reverse=True)
    assert clean.funnel[0].step == "raw"
    last = {point.role: point.rows for point in clean.funnel[-5:]}
    assert last["instructions"] == len(clean.tables["instructions"])
    assert last["corpus"] + last["general_text"] == sum(
        len(clean.tables[table]) for table in ("corpus", "replay_text", "heldout_text")
    )


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
        rules = {decision(outcome, name)["rule"] for outcome in (before, after) for name in changed}
        names = {"near_duplicate_jaccard": "near_duplicate", "decontaminate_ngram_words": "leak"}
        assert names.get(setting, setting) in rules


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(UserError, match=r"corpus\.parquet: no documents.*fetch\.sources\.corpus"):
        curate_records(raw_records() | {"corpus": []})


def test_when_nothing_is_left_the_rule_that_removed_most_is_named() -> None:
    with pytest.raises(
        UserError,
        match=r"none of 30 rows is left; the rule `min_words` removed most, 30, .* < 500",
    ):
        curate_records(raw_records(), min_words=500)


def test_an_id_that_stands_twice_is_refused_with_both_places() -> None:
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
