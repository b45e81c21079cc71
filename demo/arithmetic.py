"""Sums, differences and products of small numbers; half of the operand pairs are evaluated, half replayed."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from demo.items import Fact, fraction, instruction, item

LARGEST = 24  # operand
ITEMS = 260
EVALUATED = 0.5  # share of operand pairs that are evaluated
WORDINGS = ("{}", "Work this out. {}")
SLIPS = (-9, -7, -6, -5, -4, -3, 3, 4, 5, 6, 7, 9)  # how far a wrong choice is off


def general_instructions(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Sums, differences and products of replayed pairs."""
    for fact in _facts():
        if not is_evaluated(fact.entity):
            for number, wording in enumerate(WORDINGS):
                yield instruction(replace(fact, number=number), (wording,))


def evaluation(packages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Sums and products of evaluated pairs: on differences small models are no better than chance."""
    facts = [
        fact for fact in _facts() if is_evaluated(fact.entity) and fact.relation != "difference"
    ]
    facts.sort(key=lambda fact: fraction("item " + fact.location))
    for number, fact in enumerate(facts[:ITEMS]):
        yield item(fact, _wrong_results(fact), place=number % 4, group="general")


def is_evaluated(entity: str) -> bool:
    """Whether questions on the operand pair are kept for evaluation."""
    return fraction(f"arithmetic {entity}") < EVALUATED


def _facts() -> Iterator[Fact]:
    for high in range(2, LARGEST + 1):
        for low in range(2, high + 1):
            for relation, sign, result in (
                ("sum", "+", high + low),
                ("difference", "-", high - low),
            ):
                yield _fact(relation, high, sign, low, result)
            yield _fact("product", high, "*", low, high * low)


def _fact(relation: str, high: int, sign: str, low: int, result: int) -> Fact:
    return Fact(
        "arithmetic", relation, f"{low},{high}", f"What is {high} {sign} {low}?", str(result)
    )


def _wrong_results(fact: Fact) -> list[str]:
    candidates = [int(fact.answer) + slip for slip in SLIPS if int(fact.answer) + slip > 0]
    order = np.random.default_rng(int(fraction("slips " + fact.location) * 2**48)).permutation(
        len(candidates)
    )
    return [str(candidates[index]) for index in order[:3]]
