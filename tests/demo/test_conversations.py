from demo import conversations

Packages = dict[str, str]


def test_trivia_distractors_have_as_many_words_as_the_answer(packages: Packages) -> None:
    items = list(conversations.evaluation(packages))
    assert len(items) == 5
    for item in items:
        assert all(len(choice.split()) == 2 for choice in item["choices"])


def test_replay_leaves_out_junk_repetitions_and_evaluated_questions(packages: Packages) -> None:
    science = [
        row for row in conversations.general_instructions(packages) if row["category"] == "science"
    ]
    assert [tuple(message["content"] for message in row["messages"]) for row in science] == [
        ("What is cytology", "The study of cells."),
        ("What is cytology", "Cells are its subject."),
        ("What is chemistry", "The science of substances."),
    ]
