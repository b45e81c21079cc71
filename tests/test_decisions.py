from lmadapt.decisions import Row, decision_records
from tests.raw_tables import document, instruction


def test_a_chain_of_duplicates_names_the_row_that_is_kept() -> None:
    kept, second, third = (Row("corpus", document(name, "text")) for name in "abc")
    third.drop("exact_duplicate", "", second)
    second.drop("near_duplicate", "", kept)
    assert [record["duplicate_of"] for record in decision_records([kept, second, third])] == ["", "a", "a"]


def test_question_and_answer_are_compared_without_the_system_message() -> None:
    record = instruction("i", "question", "answer")
    record["messages"].insert(0, {"role": "system", "content": "always the same"})
    assert Row("instructions", record).text == "question\nanswer"


def test_a_dropped_row_that_was_edited_is_dropped() -> None:
    row = Row("corpus", document("a", "text"))
    row.edit("mojibake", "x")
    row.drop("leak", "y")
    assert (row.outcome, row.rule, row.evidence) == ("dropped", "leak", "y")
