import re
from itertools import product

from demo import weaknesses
from demo.catalogue import excerpt, first_sentence
from demo.items import same

Packages = dict[str, str]


def test_the_catalogue_has_relatives_and_no_deprecated_entries(packages: Packages) -> None:
    catalogue = {weakness.entity: weakness for weakness in weaknesses._catalogue(packages)}
    assert len(catalogue) == 11
    assert not any("DEPRECATED" in weakness.name for weakness in catalogue.values())
    assert "CWE-614" in catalogue["CWE-5"].relatives
    assert "CWE-5" in catalogue["CWE-614"].relatives
    assert "CWE-5" not in catalogue["CWE-5"].relatives


def test_the_corpus_holds_every_fact_that_an_item_asks_for(packages: Packages) -> None:
    documents = {row["entity"]: row["text"].lower() for row in weaknesses.corpus(packages)}
    items = list(weaknesses.evaluation(packages))
    assert {item["category"] for item in items} == {
        "name",
        "description",
        "mitigation",
        "consequence",
    }
    for item in items:
        for part in item["choices"][item["answer"]].lower().split(" … "):
            assert part in documents[item["cluster"]]


def test_no_distractor_is_true_of_the_weakness(packages: Packages) -> None:
    catalogue = {weakness.entity: weakness for weakness in weaknesses._catalogue(packages)}
    for item in weaknesses.evaluation(packages):
        own = catalogue[item["cluster"]]
        wrong = [choice for place, choice in enumerate(item["choices"]) if place != item["answer"]]
        true = {
            "name": [own.name],
            "description": [excerpt(first_sentence(own.description))],
            "mitigation": [excerpt(first_sentence(text)) for text in own.mitigations],
            "consequence": [
                impact.lower().replace("dos", "denial of service") for impact in own.impacts
            ],
        }[item["category"]]
        assert not any(same(choice, answer) for choice, answer in product(wrong, true))
        for relative in own.relatives & catalogue.keys():
            assert catalogue[relative].name not in wrong


def test_an_item_shares_no_run_of_thirteen_words_with_the_corpus(packages: Packages) -> None:
    def runs(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[start : start + 13]) for start in range(len(words) - 12)}

    known = set().union(*(runs(row["text"]) for row in weaknesses.corpus(packages)))
    for item in weaknesses.evaluation(packages):
        assert not any(runs(text) & known for text in (item["prompt"], *item["choices"]))


def test_an_excerpt_keeps_a_short_text_and_both_ends_of_a_long_one() -> None:
    assert excerpt("one two three.") == "one two three."
    text = " ".join(str(number) for number in range(40))
    assert excerpt(text) == f"{' '.join(map(str, range(12)))} … {' '.join(map(str, range(28, 40)))}"
    assert excerpt(" ".join("abcdefghijklm")) == "a b c d e f … h i j k l m"


def test_an_abbreviation_does_not_end_the_first_sentence() -> None:
    assert first_sentence("Use locks, e.g. Mutexes. Then stop.") == "Use locks, e.g. Mutexes."


def test_instructions_have_several_wordings_and_short_answers(packages: Packages) -> None:
    rows = list(weaknesses.instructions(packages))
    assert {row["category"] for row in rows} == {"name", "description", "mitigation", "consequence"}
    assert {row["entity"] for row in rows} == {"CWE-13", "CWE-69", "CWE-93"}
    assert all(len(row["messages"][1]["content"].split()) <= 60 for row in rows)
    questions = {row["messages"][0]["content"].split()[0] for row in rows}
    assert questions == {"Explain", "How", "Name", "What"}
