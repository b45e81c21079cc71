from tests.raw_tables import curate_records, raw_records


def test_every_table_has_quantiles_of_its_lengths() -> None:
    clean = curate_records(raw_records())
    sizes = clean.metrics["tables"]["instructions"]
    assert sizes["words_quantiles"] == [19.0, 19.0, 19.0, 19.0, 19.0]
    assert sizes["answer_words_quantiles"] == [12.0] * 5
