from demo import python_documentation


def test_each_topic_is_one_document() -> None:
    rows = list(python_documentation.general_text({}))
    assert len(rows) > 50
    assert [row["entity"] for row in rows] == sorted({row["entity"] for row in rows})
    assert "Operator precedence" in next(
        row["text"] for row in rows if row["entity"] == "operator-summary"
    )
