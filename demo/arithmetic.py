"""Sums, differences and products of small numbers: half of the operand pairs are evaluated."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from demo.items import Fact, fraction, instruction, item

LARGEST = 24  # operand
ITEMS = 260
EVALUATED = 0.5  # share of operand pairs kept for evaluation; the others are replayed
WORDINGS = ("{}", "Work this out. {}")
SLIPS = (-9, -7, -6, -5, -4, -3, 3, 4, 5, 6, 7, 9)  # wrong choice minus right result


def general_instructions(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Sums, differences and products of the replayed pairs, in each wording."""
    for fact in _facts():
        if not is_evaluated(fact.entity):
            for number, wording in enumerate(WORDINGS):
                yield instruction(replace(fact, number=number), (wording,))


def evaluation(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """ITEMS sums and products of the evaluated pairs.

    Differences are left out: small models only guess them.
    """
    facts = [
        fact for fact in _facts() if is_evaluated(fact.entity) and fact.relation != "difference"
    ]
    facts.sort(key=lambda fact: fraction("item " + fact.location))
    for number, fact in enumerate(facts[:ITEMS]):
        yield item(fact, _wrong_results(fact), place=number % 4, group="general")


def is_evaluated(entity: str) -> bool:
    """Whether questions about this operand pair are kept for evaluation."""
    return fraction(f"arithmetic {entity}") < EVALUATED


def _facts() -> Iterator[Fact]:
    for high in range(2, LARGEST + 1):
        for low in range(2, high + 1):
            yield _fact("sum", low, high, f"What is {high} + {low}?", high + low)
            yield _fact("difference", low, high, f"What is {high} - {low}?", high - low)
            yield _fact("product", low, high, f"What is {high} * {low}?", high * low)


def _fact(relation: str, low: int, high: int, question: str, result: int) -> Fact:
    return Fact("arithmetic", relation, f"{low},{high}", question, str(result))


def _wrong_results(fact: Fact) -> list[str]:
    right = int(fact.answer)
    candidates = [right + slip for slip in SLIPS if right + slip > 0]
    random = np.random.default_rng(int(fraction("slips " + fact.location) * 2**48))
    order = random.permutation(len(candidates))
    return [str(candidates[index]) for index in order[:3]]
