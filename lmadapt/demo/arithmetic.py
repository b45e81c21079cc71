"""Sums, differences and products of numbers of one or two digits."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmadapt.demo.items import Fact, fraction, instruction, item

ITEMS = 260
INSTRUCTIONS = 700
EVALUATED = 0.3  # share of operand pairs that are evaluated; the others are replayed
WORDINGS = ("{}", "Work this out. {}", "{} Give only the number.")


def general_instructions(packages: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Questions on operand pairs that are not evaluated."""
    for fact in _facts(evaluated=False, count=INSTRUCTIONS):
        yield instruction(fact, WORDINGS)


def evaluation(packages: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Questions on the other operand pairs, with wrong results as slips make them."""
    for number, fact in enumerate(_facts(evaluated=True, count=ITEMS)):
        yield item(fact, _slips(fact), place=number % 4, group="general")


def _facts(*, evaluated: bool, count: int) -> list[Fact]:
    """One operation on each of `count` operand pairs, drawn by hash."""
    pairs = [(low, high) for high in range(2, 100) for low in range(2, high + 1)]
    pairs = [pair for pair in pairs if (fraction(f"arithmetic {pair}") < EVALUATED) == evaluated]
    return [_fact(*pair) for pair in sorted(pairs, key=lambda pair: fraction(f"order {pair}"))[:count]]


def _fact(low: int, high: int) -> Fact:
    operations = {"sum": f"{low} + {high}", "difference": f"{high} - {low}"}
    results = {"sum": low + high, "difference": high - low}
    if low < 10 and high < 20:
        operations, results = {"product": f"{low} * {high}"}, {"product": low * high}
    relation = sorted(operations)[int(fraction(f"operation {low} {high}") * len(operations))]
    return Fact("arithmetic", relation, f"{low},{high}", f"What is {operations[relation]}?", str(results[relation]))


def _slips(fact: Fact) -> list[str]:
    """Three other numbers: off by one, two or ten, or with two digits swapped."""
    result = int(fact.answer)
    swapped = int(fact.answer[::-1])
    near = {result + step for step in (-10, -2, -1, 1, 2, 10)} | {swapped}
    candidates = sorted(number for number in near if number >= 0 and number != result)
    order = np.random.default_rng(int(fraction("slips " + fact.location) * 2**48)).permutation(len(candidates))
    return [str(candidates[index]) for index in order[:3]]
