"""Does the verdict keep its promises?

Draws evaluations with a known truth and judges them with the verdict's own tests: coverage of
intervals, how often a model that lost nothing is held or ships, how often a loss as large as the
margin passes, and how often a real loss is found on as many items as an evaluation asks for.

With `--repetitions 5000 --processes 2` it takes about 4 minutes on two cores; it writes
benchmarks/results/verdict.json.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np

from benchmarks.record import benchmark_parser, write_results
from benchmarks.verdict_coverage import (
    Row,
    Run,
    Texts,
    accuracy_coverage,
    change_coverage,
    text_coverage,
)
from benchmarks.verdict_decisions import (
    CATEGORY_MARGIN,
    MARGIN,
    at_margin,
    false_hold,
    power_at_detectable_effect,
    power_at_named_n,
    ship_rate,
)
from benchmarks.verdict_item_response import ABILITIES, Design
from benchmarks.verdict_known_truth import Design as DirichletDesign

SEED = 0
REPETITIONS, SMOKE_REPETITIONS = 5000, 20
Measure = tuple[Callable[..., Row], tuple[object, ...]]

CLUSTERINGS = (("alone", 0.0), ("four", 0.1), ("four", 0.5), ("few", 0.1), ("giant", 0.3))
DIRICHLET = ((1, 0.0), (4, 0.1), (4, 0.3), (10, 0.1))  # mean size of clusters, correlation
CHANGES = ((0.025, 0.025), (0.07, 0.05), (0.1, 0.05))  # lost, gained
ACCURACIES = (0.3, 0.6, 0.9)
HELD = ((3, 30), (60, 30), (8, 275))  # categories, items each
HELD_LARGE = ((20, 275), (60, 300), (3, 5000))


def coverages() -> Iterator[Measure]:
    """Rows of intervals."""
    for items, (size, correlation), (lost, gained) in product((200, 1000), DIRICHLET, CHANGES):
        design = DirichletDesign(items, size, correlation, lost, gained)
        if items * (lost + gained) >= 10 * design.design_effect and items >= 50 * size:
            yield change_coverage, (design,)
    for items, accuracy in product((200, 1000), ACCURACIES):
        for size, correlation in DIRICHLET:
            design = DirichletDesign(items, size, correlation)
            if items * min(accuracy, 1 - accuracy) >= 20 * design.design_effect:
                yield accuracy_coverage, (design, accuracy)
    for documents, giant, rates in product((10, 30), (0.0, 0.56), ("normal", "skewed", "by byte")):
        yield text_coverage, (Texts(documents, giant, rates),)


def errors() -> Iterator[Measure]:
    """Rows of false SHIP and false HOLD."""
    for level, clustering, items in product(ABILITIES, CLUSTERINGS, (30, 275, 1000)):
        yield at_margin, (Design(items, *clustering, level), CATEGORY_MARGIN)
    for level, clustering, items in product(ABILITIES, CLUSTERINGS, (30, 275)):
        yield at_margin, (Design(items, *clustering, level, harm="shift"), CATEGORY_MARGIN)
    for level, clustering in product(ABILITIES, CLUSTERINGS[:2]):
        yield at_margin, (Design(5000, *clustering, level), MARGIN)
    for (categories, items), clustering in product(HELD, CLUSTERINGS):
        yield false_hold, (Design(items, *clustering), categories)
    for categories, items in HELD_LARGE:
        yield false_hold, (Design(items, *CLUSTERINGS[1]), categories)
    for level, clustering in product(ABILITIES, CLUSTERINGS[:2]):
        yield false_hold, (Design(275, *clustering, level, harm="gain"), 8)


def powers() -> Iterator[Measure]:
    """Rows of SHIP where nothing is lost, and of losses that are found."""
    for churn, categories in ((0.05, 8), (0.05, 20), (0.03, 8), (0.1, 8)):
        yield ship_rate, (Design(275, "pairs", 0.1, churn=churn), categories)
    for clustering, churn in product(CLUSTERINGS[:2], (0.02, 0.05)):
        yield power_at_named_n, (Design(2200, *clustering, churn=churn),)
        yield power_at_detectable_effect, (Design(275, *clustering, churn=churn),)
        yield power_at_detectable_effect, (Design(2200, *clustering, churn=churn),)


def first_of_each(chosen: list[Measure]) -> list[Measure]:
    """The first row of each kind."""
    first: dict[Callable[..., Row], Measure] = {}
    for one in chosen:
        first.setdefault(one[0], one)
    return list(first.values())


def measured(number: int, measure: Measure, repetitions: int) -> Row:
    """One row; its random generator is seeded by its number."""
    run = Run(np.random.default_rng([SEED, number]), repetitions)
    return measure[0](run, *measure[1])


def main() -> None:
    """Measure every row, and write the results."""
    parser = benchmark_parser("verdict", __doc__)
    parser.add_argument("--repetitions", type=int, help=f"of each row ({REPETITIONS})")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at once")
    arguments = parser.parse_args()
    repetitions = arguments.repetitions or REPETITIONS
    chosen = [*coverages(), *errors(), *powers()]
    if arguments.smoke:
        repetitions, chosen = SMOKE_REPETITIONS, first_of_each(chosen)
    rows: list[Row] = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        waiting = [
            pool.submit(measured, number, measure, repetitions)
            for number, measure in enumerate(chosen)
        ]
        for one in waiting:
            rows.append(one.result())
            print(rows[-1], flush=True)
    write_results(
        "verdict",
        arguments,
        headlines(rows),
        rows=rows,
        packages=["numpy", "scipy"],
        seeds=[SEED],
        repetitions=repetitions,
    )


def headlines(rows: list[Row]) -> dict[str, float]:
    """The worst rates of what is promised, and how many items graded scores save."""

    def found(kind: str, *names: str) -> list[Any]:
        return [row[name] for row in rows if row["kind"] == kind for name in names]

    def rates(kind: str, *names: str) -> list[float]:
        return [value["rate"] for value in found(kind, *names)]

    both = ("graded", "right")
    shipped = found("SHIP of a better domain, nothing lost", "graded")
    named = [row for row in rows if row["kind"] == "power at the named n"]
    changes = found("coverage of a change", "coverage") + found(
        "coverage of an accuracy", "coverage"
    )
    return {
        "false_hold_rate_max": max(rates("false HOLD", *both)),
        "ship_at_margin_max": max(rates("loss at the margin passes", *both)),
        "ship_nothing_lost_demo": shipped[0]["rate"],
        "ship_nothing_lost_20x275": shipped[min(1, len(shipped) - 1)]["rate"],
        "power_at_named_n_min": min(
            rates("power at the named n", *(f"{n}_{end}" for n in both for end in _ENDS))
        ),
        "items_graded_vs_right": float(
            np.median([row[f"graded_{_CERTAINTY}"] / row[f"right_{_CERTAINTY}"] for row in named])
        ),
        "coverage_min": min(changes),
        "coverage_max": max(changes),
        "text_coverage_min": min(found("coverage of bits per byte", "coverage")),
        "text_coverage_max": max(found("coverage of bits per byte", "coverage")),
    }


_ENDS = ("within", "shown")
_CERTAINTY = "variance_over_squared_margin"


if __name__ == "__main__":
    main()
