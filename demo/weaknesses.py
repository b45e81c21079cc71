"""Application security, from the CWE catalogue in the package cwe2.

It fills three roles: prose, questions with answers, and multiple-choice items of the domain.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from demo.catalogue import RUN_WORDS, Weakness, excerpt, first_sentence, read_catalogue, word_count
from demo.items import Fact, choice_items, fraction, instruction, same
from demo.packages import unpacked

CATALOGUE = Path("cwe2/database_v49/cwec_v4.14.xml")
EVALUATED = 0.5  # share of weaknesses kept for evaluation; instructions ask about the others
LIMIT = 190  # items of each category
DOCUMENT_CHARACTERS = 1000  # more prose is added up to this length
ANSWER_WORDS = 60
VAGUE_IMPACTS = {"Other", "Varies by Context"}
WORDINGS = {
    "name": (
        "Which weakness is this? {}",
        "What do security people call this? {}",
        "Name the weakness: {}",
    ),
    "description": (
        "What is meant by the weakness {}?",
        "Explain this weakness: {}",
        "Describe the weakness {}.",
    ),
    "mitigation": (
        "How can one prevent this weakness: {}?",
        "Give a mitigation for {}.",
        "What helps against {}?",
    ),
    "consequence": (
        "What may an attacker achieve through {}?",
        "What is a consequence of {}?",
        "Name an impact of the weakness {}.",
    ),
}
ITEM_WORDINGS = {
    "name": "Which software weakness does this describe? {}",
    "description": "Which of these describes the weakness {}?",
    "mitigation": "Which of these helps against the weakness {}?",
    "consequence": "Which of these can be a consequence of the weakness {}?",
}


def corpus(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One document for each weakness: every fact that an item asks for, then more prose."""
    for weakness in _catalogue(packages):
        yield {"text": _document(weakness), "entity": weakness.entity, "location": weakness.entity}


def instructions(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Questions and free answers about the weaknesses that are not evaluated."""
    for weakness in _catalogue(packages):
        if not is_evaluated(weakness):
            for fact in _instruction_facts(weakness):
                yield instruction(fact, WORDINGS[fact.relation])


def evaluation(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Four-way items about the evaluated weaknesses; the distractors are theirs too."""
    catalogue = _catalogue(packages)
    shared = _shared_mitigations(catalogue)
    facts: list[Fact] = []
    for weakness in filter(is_evaluated, catalogue):
        facts += _item_facts(weakness, shared)
    yield from choice_items(facts, group="domain", limit=LIMIT)


def is_evaluated(weakness: Weakness) -> bool:
    """Whether questions about this weakness are kept for evaluation."""
    return fraction(f"weakness {weakness.entity}") < EVALUATED


def _catalogue(packages: Mapping[str, str]) -> list[Weakness]:
    return read_catalogue(unpacked("cwe2", packages) / CATALOGUE)


def _document(weakness: Weakness) -> str:
    impacts = [impact for impact in weakness.impacts if impact not in VAGUE_IMPACTS]
    text = f"{weakness.name} ({weakness.entity}). {weakness.description}"
    if impacts:
        text += f"\n\nConsequences: {'; '.join(map(_phrase, impacts))}."
    for mitigation in dict.fromkeys(map(first_sentence, weakness.mitigations)):
        text += f"\n\nMitigation: {mitigation}"
    for paragraph in weakness.prose:
        if len(text) + len(paragraph) <= DOCUMENT_CHARACTERS:
            text += f"\n\n{paragraph}"
    return text


def _phrase(impact: str) -> str:
    """`DoS: Crash, Exit, or Restart` becomes `denial of service: crash, exit, or restart`."""
    return impact.replace("DoS", "denial of service").lower().replace("(cpu)", "(CPU)")


def _instruction_facts(weakness: Weakness) -> Iterator[Fact]:
    name, entity = weakness.name, weakness.entity
    description = _short(weakness.description)
    yield Fact("name", "name", entity, description, f"{name}.")
    yield Fact("description", "description", entity, name, description)
    if weakness.mitigations:
        yield Fact("mitigation", "mitigation", entity, name, _short(weakness.mitigations[0]))
    impacts = [_phrase(impact) for impact in weakness.impacts if impact not in VAGUE_IMPACTS]
    if impacts:
        answer = "; ".join(impacts[:3])
        yield Fact("consequence", "consequence", entity, name, f"{answer[0].upper()}{answer[1:]}.")


def _short(text: str) -> str:
    """The first sentences, up to ANSWER_WORDS words in all; a longer first sentence is cut."""
    kept = first_sentence(text)
    while len(kept) < len(text):
        longer = f"{kept} {first_sentence(text[len(kept) :].strip())}"
        if len(longer.split()) > ANSWER_WORDS:
            break
        kept = longer
    return " ".join(kept.split()[:ANSWER_WORDS])


def _item_facts(weakness: Weakness, shared: Mapping[str, int]) -> Iterator[Fact]:
    name, relatives = weakness.name, weakness.relatives

    def fact(relation: str, subject: str, answer: str, also_true: Sequence[str] = ()) -> Fact:
        question = ITEM_WORDINGS[relation].format(subject)
        return Fact(
            relation, relation, weakness.entity, question, answer, tuple(also_true), relatives
        )

    if word_count(name) > RUN_WORDS:
        return
    description = excerpt(first_sentence(weakness.description))
    if name.lower() not in weakness.description.lower():
        yield fact("name", description, name)
        yield fact("description", name, description)
    sentences = [first_sentence(mitigation) for mitigation in weakness.mitigations]
    own = [
        sentence
        for sentence in sentences
        if shared[sentence] == 1 and 6 <= len(sentence.split()) <= 30
    ]
    if own:
        yield fact("mitigation", name, excerpt(own[0]), list(map(excerpt, sentences)))
    impacts = [impact for impact in weakness.impacts if impact not in VAGUE_IMPACTS]
    if impacts:
        yield fact("consequence", name, _phrase(impacts[-1]), list(map(_phrase, impacts)))


def _shared_mitigations(catalogue: Sequence[Weakness]) -> dict[str, int]:
    """How many weaknesses name each mitigation, by its first sentence; near-copies count as one."""
    sentences = [{first_sentence(text) for text in weakness.mitigations} for weakness in catalogue]
    count: dict[str, int] = {}
    for sentence in sorted(set().union(*sentences)):
        count[sentence] = sum(any(same(sentence, other) for other in group) for group in sentences)
    return count
