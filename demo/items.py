"""Questions with known answers, as instructions and as four-way multiple-choice items."""

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CHOICES = 4
NEAR_COPY = 0.5  # Jaccard similarity of two answers' words from which they count as the same


@dataclass(frozen=True)
class Fact:
    """A question and its answer: `relation` is the kind of question, `entity` what it is about."""

    category: str
    relation: str
    entity: str
    question: str
    answer: str
    also_true: tuple[str, ...] = ()  # other right answers, which cannot be distractors
    relatives: frozenset[str] = frozenset()  # entities whose answers may also be right here
    number: int = 0  # distinguishes questions of one relation about one entity

    @property
    def location(self) -> str:
        """An id of the fact, unique in its module."""
        return f"{self.relation}/{self.entity}/{self.number}"


def fraction(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone, so that new entries change no split."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12


def instruction(fact: Fact, wordings: Sequence[str] = ("{}",)) -> dict[str, Any]:
    """The fact as question and answer, in one of `wordings`, chosen by its location."""
    wording = wordings[int(fraction("wording " + fact.location) * len(wordings))]
    return {
        "messages": [
            {"role": "user", "content": wording.format(fact.question)},
            {"role": "assistant", "content": fact.answer},
        ],
        "category": fact.category,
        "entity": fact.entity,
        "location": fact.location,
    }


def choice_items(facts: Iterable[Fact], *, group: str, limit: int) -> Iterator[dict[str, Any]]:
    """At most `limit` items of each category; the distractors answer the same kind of question.

    A distractor is never right: it is no other true answer, no relative's answer, and no near-copy
    of either. A fact without three such distractors makes no item. The answer is equally often in
    each place.
    """
    ordered = sorted(unambiguous(facts), key=lambda fact: fraction("item " + fact.location))
    taken: dict[str, int] = {}
    for fact in ordered:
        place = taken.get(fact.category, 0)
        if place == limit:
            continue
        distractors = _draw([other for other in ordered if other.relation == fact.relation], fact)
        if len(distractors) == CHOICES - 1:
            taken[fact.category] = place + 1
            yield item(fact, distractors, place=place % CHOICES, group=group)


def unambiguous(facts: Iterable[Fact]) -> list[Fact]:
    """The facts whose question no other fact asks: with two entities it would have two answers."""
    facts = list(facts)
    asked = Counter(fact.question for fact in facts)
    return [fact for fact in facts if asked[fact.question] == 1]


def item(fact: Fact, distractors: Sequence[str], *, place: int, group: str) -> dict[str, Any]:
    """The fact as a multiple-choice row, with its answer at index `place` of the choices."""
    return {
        "group": group,
        "category": fact.category,
        "cluster": fact.entity,
        "prompt": fact.question,
        "choices": [*distractors[:place], fact.answer, *distractors[place:]],
        "answer": place,
        "check": "",
        "severity": "",
        "location": fact.location,
    }


def same(first: str, second: str) -> bool:
    """Whether two answers are near-copies, or one contains all words of the other."""
    one, two = words(first), words(second)
    return one <= two or two <= one or len(one & two) >= NEAR_COPY * len(one | two)


@functools.cache
def words(text: str) -> frozenset[str]:
    """The words of a text, in lower case; a text without words counts as one word."""
    return frozenset(re.findall(r"\w+", text.lower())) or frozenset((text,))


def _draw(pool: Sequence[Fact], fact: Fact) -> list[str]:
    random = np.random.default_rng(int(fraction("distractors " + fact.location) * 2**48))
    drawn: list[str] = []
    for index in random.permutation(len(pool)):
        other = pool[index]
        if other.entity == fact.entity or other.entity in fact.relatives:
            continue
        if not any(same(other.answer, known) for known in (fact.answer, *fact.also_true, *drawn)):
            drawn.append(other.answer)
        if len(drawn) == CHOICES - 1:
            break
    return drawn
