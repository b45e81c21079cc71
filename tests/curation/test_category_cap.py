from tests.raw_tables import curate_records, raw_records


def test_instructions_of_a_category_are_capped() -> None:
    curated = curate_records(raw_records(), max_instructions_per_category=5)
    assert len(curated.tables["instructions"]) == 5
    assert len(curated.tables["replay_instructions"]) == 10
    assert curated.metrics["rows"]["instructions"]["dropped_by"]["category_cap"] == 12
