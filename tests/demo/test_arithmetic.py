from demo import arithmetic


def test_only_the_answer_of_an_item_is_right() -> None:
    items = list(arithmetic.evaluation({}))
    assert len(items) == arithmetic.ITEMS
    for item in items:
        first, sign, second = item["prompt"].removeprefix("What is ").removesuffix("?").split()
        result = {"+": int(first) + int(second), "*": int(first) * int(second)}[sign]
        right = [choice for choice in item["choices"] if int(choice) == result]
        assert right == [item["choices"][item["answer"]]]


def test_replay_also_asks_for_differences() -> None:
    assert any(
        " - " in row["messages"][0]["content"] for row in arithmetic.general_instructions({})
    )
