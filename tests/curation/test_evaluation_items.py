from tests.raw_tables import curate_records, decision, item, raw_records


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
