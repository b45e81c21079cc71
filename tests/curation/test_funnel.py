from lmadapt.curation.decisions import RowDecision
from lmadapt.curation.funnel import count_rows
from tests.raw_tables import curate_records, raw_records


def test_the_funnel_never_widens_and_ends_with_the_tables() -> None:
    clean = curate_records(raw_records())
    corpus = [point.rows for point in clean.funnel if point.role == "corpus"]
    assert corpus == sorted(corpus, reverse=True)
    assert clean.funnel[0].step == "raw"
    last = {point.role: point.rows for point in clean.funnel[-5:]}
    assert last["instructions"] == len(clean.tables["instructions"])
    assert last["corpus"] + last["general_text"] == sum(
        len(clean.tables[table]) for table in ("corpus", "replay_text", "heldout_text")
    )


def test_rows_are_counted_for_every_role() -> None:
    rows = [
        RowDecision(role, "tests", "", name)
        for role, name in (("corpus", "a"), ("corpus", "b"), ("evaluation", "c"))
    ]
    points = count_rows(rows, "raw")
    assert [point.rows for point in points] == [2, 0, 0, 0, 1]
    assert {point.step for point in points} == {"raw"}
