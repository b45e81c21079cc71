"""The CWE catalogue's XML (cwe.mitre.org/data/xsd/cwe_schema_v7.1.xsd) as plain records."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from defusedxml import ElementTree

CWE = "{http://cwe.mitre.org/cwe-7}"
DROPPED = ("Deprecated", "Obsolete")
SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)[.!?]['\")]?(?=\s+[A-Z\"'(])")
RUN_WORDS = 12  # of an excerpt; decontamination takes a shared run of 13 words for a leak (Brown et al. 2020)


@dataclass(frozen=True)
class Weakness:
    """One entry of the catalogue; texts have single spaces, lists keep the catalogue's order."""

    entity: str  # CWE-n
    name: str
    description: str
    prose: tuple[
        str, ...
    ]  # paragraphs: extended description, background, notes on consequences, examples
    mitigations: tuple[str, ...]
    impacts: tuple[str, ...]  # what an attacker gains, the commonest in the catalogue first
    relatives: frozenset[str]  # entities above, below, beside or otherwise linked


def read_catalogue(file: Path) -> list[Weakness]:
    """The current entries in numeric order."""
    entries = [
        entry
        for entry in ElementTree.parse(file).getroot().find(f"{CWE}Weaknesses")
        if entry.get("Status") not in DROPPED
    ]
    entries.sort(key=lambda entry: int(entry.get("ID")))
    impacts = {
        entry.get("ID"): _texts(entry, "Common_Consequences/Consequence/Impact")
        for entry in entries
    }
    frequency: dict[str, int] = defaultdict(int)
    for names in impacts.values():
        for impact in set(names):
            frequency[impact] += 1
    relatives = _relatives(entries)
    return [
        Weakness(
            entity=f"CWE-{entry.get('ID')}",
            name=" ".join(entry.get("Name").split()),
            description=_texts(entry, "Description")[0],
            prose=tuple(_prose(entry)),
            mitigations=tuple(
                dict.fromkeys(_texts(entry, "Potential_Mitigations/Mitigation/Description"))
            ),
            impacts=tuple(
                sorted(
                    set(impacts[entry.get("ID")]), key=lambda impact: (-frequency[impact], impact)
                )
            ),
            relatives=relatives[f"CWE-{entry.get('ID')}"],
        )
        for entry in entries
    ]


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    end = SENTENCE_END.search(text)
    return text[: end.end()] if end else text


def excerpt(text: str) -> str:
    """The text, or where it has more than RUN_WORDS words its beginning and end around an omission.

    So no run of it is long enough to look like a leak of the document that states the same fact.
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
    """How many of the tokens hold at most `budget` words."""
    return sum(total <= budget for total in accumulate(map(word_count, tokens)))


def _texts(entry: Any, path: str) -> list[str]:
    """Text of every element at the path, white space collapsed; empty ones are left out."""
    elements = entry.findall("/".join(CWE + step for step in path.split("/")))
    return [text for element in elements if (text := _text(element))]


def _text(element: Any) -> str:
    return re.sub(r"\s+", " ", " ".join(element.itertext())).strip()


def _prose(entry: Any) -> Iterable[str]:
    yield from _texts(entry, "Extended_Description")
    yield from _texts(entry, "Background_Details/Background_Detail")
    yield from _texts(entry, "Common_Consequences/Consequence/Note")
    for example in entry.findall(f"{CWE}Demonstrative_Examples/{CWE}Demonstrative_Example"):
        yield " ".join([*_texts(example, "Intro_Text"), *_texts(example, "Body_Text")])


def _relatives(entries: list[Any]) -> dict[str, frozenset[str]]:
    """Entities linked to each entity in either direction, its ancestors and descendants, and its parents' children."""
    links: dict[str, set[str]] = defaultdict(set)
    parents: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        entity = f"CWE-{entry.get('ID')}"
        for link in entry.findall(f"{CWE}Related_Weaknesses/{CWE}Related_Weakness"):
            other = f"CWE-{link.get('CWE_ID')}"
            links[entity].add(other)
            links[other].add(entity)
            if link.get("Nature") == "ChildOf":
                parents[entity].add(other)
    ancestors = {
        f"CWE-{entry.get('ID')}": _ancestors(f"CWE-{entry.get('ID')}", parents) for entry in entries
    }
    return {
        entity: frozenset(
            links[entity]
            | above
            | {
                other
                for other in ancestors
                if entity in ancestors[other] or parents[other] & parents[entity]
            }
        )
        - {entity}
        for entity, above in ancestors.items()
    }


def _ancestors(entity: str, parents: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    frontier = set(parents[entity])
    while frontier:
        found |= frontier
        frontier = {above for below in frontier for above in parents[below]} - found
    return found
