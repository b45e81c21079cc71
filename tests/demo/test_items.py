from demo.items import Fact, choice_items, fraction, same, unambiguous


def facts(count: int) -> list[Fact]:
    return [Fact("c", "r", f"e{n}", f"q{n}?", f"answer{n}") for n in range(count)]


def test_a_distractor_is_neither_another_right_answer_nor_a_relatives_answer() -> None:
    true = Fact(
        "c", "r", "e", "q?", "right", also_true=("answer0", "answer1"), relatives=frozenset({"e2"})
    )
    items = [
        item
        for item in choice_items([*facts(6), true], group="general", limit=9)
        if item["cluster"] == "e"
    ]
    assert sorted(items[0]["choices"]) == ["answer3", "answer4", "answer5", "right"]
    assert items[0]["choices"][items[0]["answer"]] == "right"


def test_facts_with_too_few_distractors_and_facts_over_the_limit_make_no_item() -> None:
    assert list(choice_items(facts(3), group="general", limit=9)) == []
    assert len(list(choice_items(facts(20), group="general", limit=9))) == 9


def test_the_split_of_an_entity_depends_on_its_name_alone() -> None:
    assert 0 <= fraction("a") < 1
    assert fraction("a") == fraction("a") != fraction("b")


def test_near_copies_and_contained_answers_count_as_the_same() -> None:
    assert same("Guinea", "Guinea-Bissau")
    assert same("Use a safe library function.", "Use the safe library function!")
    assert not same("Iron", "Gold")
    assert not same("12", "21")


def test_a_question_with_two_answers_is_not_asked() -> None:
    one, two = (
        Fact("c", "r", "a", "Who is Dominican?", "A"),
        Fact("c", "r", "b", "Who is Dominican?", "B"),
    )
    assert unambiguous([one, two, *facts(1)]) == facts(1)
