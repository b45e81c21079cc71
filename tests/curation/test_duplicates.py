from tests.raw_tables import curate_records, decision, document, instruction, prose, raw_records


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
