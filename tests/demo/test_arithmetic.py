from demo import arithmetic


def test_every_answer_is_right_and_every_other_choice_wrong() -> None:
    items = list(arithmetic.evaluation({}))
    assert len(items) == arithmetic.ITEMS
    for item in items:
        first, sign, second = item["prompt"].removeprefix("What is ").removesuffix("?").split()
        result = {"+": int(first) + int(second), "*": int(first) * int(second)}[sign]
        assert [choice for choice in item["choices"] if int(choice) == result] == [
            item["choices"][item["answer"]]
        ]


def test_replay_has_differences_too() -> None:
    assert any(
        " - " in row["messages"][0]["content"] for row in arithmetic.general_instructions({})
    )
