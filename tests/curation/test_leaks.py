from tests.raw_tables import (
    curate_records,
    decision,
    document,
    ids,
    instruction,
    prose,
    raw_records,
)


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


def test_the_item_is_dropped_instead_on_request() -> None:
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
