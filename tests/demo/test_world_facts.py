from demo import world_facts
from demo.items import words

Packages = dict[str, str]


def test_replay_names_no_evaluated_country_or_element(packages: Packages) -> None:
    evaluated = {item["cluster"] for item in world_facts.evaluation(packages)}
    assert {"France", "Iron"} <= evaluated
    replayed = list(world_facts.general_instructions(packages))
    assert {"Germany", "Neon"} <= {row["entity"] for row in replayed}
    for row in replayed:
        said = words(" ".join(message["content"] for message in row["messages"]))
        assert not any(words(entity) <= said for entity in evaluated)


def test_no_replayed_entity_is_a_choice_of_an_item(packages: Packages) -> None:
    replayed = {row["entity"] for row in world_facts.general_instructions(packages)}
    for item in world_facts.evaluation(packages):
        assert not replayed & set(item["choices"])


def test_neighbours_and_wider_kinds_are_not_distractors(packages: Packages) -> None:
    for item in world_facts.evaluation(packages):
        wrong = [choice for place, choice in enumerate(item["choices"]) if place != item["answer"]]
        if item["prompt"] == "Which country has a border with Italy?":
            assert "France" not in wrong
        if item["prompt"] in (
            "What kind of element is argon?",
            "What kind of element is fluorine?",
        ):
            assert "Nonmetals" not in wrong


def test_a_demonym_of_two_countries_is_not_asked_in_reverse(packages: Packages) -> None:
    asked = {fact.question for fact in world_facts._facts(packages)}
    assert "What are people from Dominica called?" in asked
    assert "Where does someone come from who is Dominican?" not in asked
