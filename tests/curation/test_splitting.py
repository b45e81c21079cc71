from itertools import product

from lmadapt.curation.splitting import heldout_entities
from tests.curation.test_near_duplicates import brute_force_jaccard
from tests.raw_tables import (
    curate_records,
    decision,
    document,
    ids,
    instruction,
    prose,
    raw_records,
)

NAMES = [f"e{n}" for n in range(100)]


def test_a_fraction_of_the_entities_is_chosen_by_seed() -> None:
    chosen = heldout_entities(NAMES * 3, avoid=set(), fraction=0.1, seed=0)
    assert len(chosen) == 10
    assert chosen == heldout_entities(reversed(NAMES), avoid=set(), fraction=0.1, seed=0)
    assert chosen != heldout_entities(NAMES, avoid=set(), fraction=0.1, seed=1)


def test_avoided_entities_come_last() -> None:
    avoid = set(NAMES[:95])
    assert heldout_entities(NAMES, avoid=avoid, fraction=0.05, seed=0) == set(NAMES[95:])
    chosen = heldout_entities(NAMES, avoid=avoid, fraction=0.1, seed=0)
    assert set(NAMES[95:]) < chosen
    assert len(chosen) == 10


def test_a_new_entity_changes_few_of_the_choices() -> None:
    before = heldout_entities(NAMES, avoid=set(), fraction=0.1, seed=0)
    after = heldout_entities([*NAMES, "new"], avoid=set(), fraction=0.1, seed=0)
    assert len(before & after) >= 9


def test_at_least_one_is_held_out_and_never_all() -> None:
    assert len(heldout_entities(["a", "b"], avoid=set(), fraction=0.01, seed=0)) == 1
    assert heldout_entities(["a"], avoid=set(), fraction=0.9, seed=0) == set()
    assert heldout_entities([], avoid=set(), fraction=0.9, seed=0) == set()
    assert heldout_entities(NAMES, avoid=set(), fraction=0.0, seed=0) == set()


def test_held_out_entities_are_in_no_training_table() -> None:
    clean = curate_records(raw_records())
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
    documents = records["corpus"] + records["general_text"]
    copies = [row["text"] for row in documents if row["id"] in heldout]
    for n, text in enumerate(copies):
        records["instructions"].append(
            instruction(f"ask/copy{n}", "Repeat after me, please:", text)
        )
        records["general_instructions"].append(instruction(f"chat/copy{n}", text, "yes"))
    curated = curate_records(records)
    assert ids(curated, "heldout_text") == set(heldout)
    for n in range(len(copies)):
        assert decision(curated, f"ask/copy{n}")["rule"] == "heldout_overlap"
        assert decision(curated, f"chat/copy{n}")["duplicate_of"] in heldout


def test_near_duplicates_are_never_split_between_held_out_and_training_text() -> None:
    records = raw_records()
    for n in range(30):
        records["corpus"].append(
            document(f"corpus/near{n}", f"{prose(n)} Tail number {n}.", f"other {n}")
        )
    curated = curate_records(records, heldout_fraction=0.3)
    sides = [[row["text"] for row in curated.tables[table]] for table in ("heldout_text", "corpus")]
    assert max(brute_force_jaccard(one, other) for one, other in product(*sides)) < 0.8


def test_documents_without_entity_are_held_out_one_by_one() -> None:
    records = raw_records()
    for row in records["corpus"]:
        row["entity"] = ""
    curated = curate_records(records)
    assert sum(row["group"] == "domain" for row in curated.tables["heldout_text"]) == 3
