"""The CWE catalogue as plain records, read from its XML.

The XML's schema is cwe.mitre.org/data/xsd/cwe_schema_v7.1.xsd.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from defusedxml import ElementTree

CWE = "{http://cwe.mitre.org/cwe-7}"
DROPPED = ("Deprecated", "Obsolete")
SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)[.!?]['\")]?(?=\s+[A-Z\"'(])")
# Longest run of words in an excerpt: decontamination calls a shared run of 13 words a leak
# (Brown et al. 2020).
RUN_WORDS = 12


@dataclass(frozen=True)
class Weakness:
    """One entry of the catalogue; texts have single spaces, lists keep the catalogue's order."""

    entity: str  # CWE-n
    name: str
    description: str
    # Paragraphs: extended description, background, notes on consequences, examples.
    prose: tuple[str, ...]
    mitigations: tuple[str, ...]
    impacts: tuple[str, ...]  # what an attacker gains; the catalogue's most frequent first
    relatives: frozenset[str]  # entities above, below, beside or otherwise linked


def read_catalogue(file: Path) -> list[Weakness]:
    """The current entries, by number."""
    entries = [
        entry
        for entry in ElementTree.parse(file).getroot().find(f"{CWE}Weaknesses")
        if entry.get("Status") not in DROPPED
    ]
    entries.sort(key=lambda entry: int(entry.get("ID")))
    impacts = {_entity(entry): _impacts(entry) for entry in entries}
    frequency = Counter(chain.from_iterable(impacts.values()))
    relatives = _relatives(entries)
    return [
        Weakness(
            entity=_entity(entry),
            name=" ".join(entry.get("Name").split()),
            description=_texts(entry, "Description")[0],
            prose=tuple(_prose(entry)),
            mitigations=_mitigations(entry),
            impacts=_most_frequent_first(impacts[_entity(entry)], frequency),
            relatives=relatives[_entity(entry)],
        )
        for entry in entries
    ]


def first_sentence(text: str) -> str:
    """The text up to the first full stop that ends a sentence."""
    end = SENTENCE_END.search(text)
    return text[: end.end()] if end else text


def excerpt(text: str) -> str:
    """The text; beyond RUN_WORDS words only its start and end, with an ellipsis between them.

    No run of an excerpt is long enough to count as a leak of the document it comes from.
    """
    if word_count(text) <= RUN_WORDS:
        return text
    tokens = text.split()
    budget = min(RUN_WORDS, (word_count(text) - 1) // 2)
    head = _fitting(tokens, budget)
    tail = _fitting(tokens[:head:-1], budget)
    return f"{' '.join(tokens[:head])} … {' '.join(tokens[len(tokens) - tail :])}"


def word_count(text: str) -> int:
    """Words as decontamination counts them: runs of letters and digits."""
    return len(re.findall(r"\w+", text))


def _fitting(tokens: list[str], budget: int) -> int:
    """How many of the first tokens hold at most `budget` words together."""
    return sum(total <= budget for total in accumulate(map(word_count, tokens)))


def _entity(entry: Any) -> str:
    return f"CWE-{entry.get('ID')}"


def _mitigations(entry: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_texts(entry, "Potential_Mitigations/Mitigation/Description")))


def _impacts(entry: Any) -> set[str]:
    return set(_texts(entry, "Common_Consequences/Consequence/Impact"))


def _most_frequent_first(impacts: set[str], frequency: Counter[str]) -> tuple[str, ...]:
    return tuple(sorted(impacts, key=lambda impact: (-frequency[impact], impact)))


def _texts(entry: Any, path: str) -> list[str]:
    """The text of every element at the path, without extra white space and without empty ones."""
    elements = entry.findall("/".join(CWE + step for step in path.split("/")))
    return [text for text in map(_text, elements) if text]


def _text(element: Any) -> str:
    return re.sub(r"\s+", " ", " ".join(element.itertext())).strip()


def _prose(entry: Any) -> Iterable[str]:
    yield from _texts(entry, "Extended_Description")
    yield from _texts(entry, "Background_Details/Background_Detail")
    yield from _texts(entry, "Common_Consequences/Consequence/Note")
    for example in entry.findall(f"{CWE}Demonstrative_Examples/{CWE}Demonstrative_Example"):
        yield " ".join([*_texts(example, "Intro_Text"), *_texts(example, "Body_Text")])


def _relatives(entries: list[Any]) -> dict[str, frozenset[str]]:
    """The relatives of each entity.

    They are the entities linked to it in either direction, its ancestors, its descendants, and
    the other children of its parents.
    """
    linked: dict[str, set[str]] = defaultdict(set)
    parents: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        entity = _entity(entry)
        for link in entry.findall(f"{CWE}Related_Weaknesses/{CWE}Related_Weakness"):
            other = f"CWE-{link.get('CWE_ID')}"
            linked[entity].add(other)
            linked[other].add(entity)
            if link.get("Nature") == "ChildOf":
                parents[entity].add(other)
    entities = [_entity(entry) for entry in entries]
    ancestors = {entity: _ancestors(entity, parents) for entity in entities}
    relatives = {}
    for entity in entities:
        below = {other for other in entities if entity in ancestors[other]}
        beside = {other for other in entities if parents[other] & parents[entity]}
        family = linked[entity] | ancestors[entity] | below | beside
        relatives[entity] = frozenset(family - {entity})
    return relatives


def _ancestors(entity: str, parents: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    frontier = set(parents[entity])
    while frontier:
        found |= frontier
        next_up = set[str]().union(*(parents[below] for below in frontier))
        frontier = next_up - found
    return found
