from tests.raw_tables import (
    curate_records,
    decision,
    document,
    ids,
    instruction,
    prose,
    raw_records,
)


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
