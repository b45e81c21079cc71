"""Does the verdict keep its promises?

Draws evaluations with a known truth and judges them with the verdict's own `compare` and `judge`:
coverage of intervals, how often a model that lost nothing is held, and how often a real loss is
found on as many items as an evaluation asks for. Takes about 8 minutes on one core; writes
benchmarks/results/verdict.json.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
from numpy.random import Generator
from scipy.special import ndtri

from benchmarks.record import benchmark_parser, write_results
from benchmarks.verdict_known_truth import (
    Design,
    draw_clusters,
    draw_evaluation,
    draw_fates,
    draw_pair,
)
from lmadapt.verdict.decision import QUESTIONS, Comparison, compare, judge
from lmadapt.verdict.statistics import (
    accuracy_interval,
    bootstrap_ratio,
    items_needed,
    minimum_detectable_effect,
    paired_change,
    wilson_interval,
)

SEED = 0
INTERVAL_SIGNIFICANCE = 0.025  # on each side: intervals of 95 %
SIGNIFICANCE = 0.05  # the default of evaluate.significance
MARGIN = 0.02
Row = dict[str, object]

CLUSTERINGS = ((1, 0.0), (4, 0.1), (4, 0.3), (10, 0.1))  # mean size, correlation
TWO = ((1, 0.0), (4, 0.3))
CHANGES = ((0.025, 0.025), (0.05, 0.05), (0.07, 0.05), (0.1, 0.1), (0.1, 0.05))  # lost, gained
ACCURACIES = (0.3, 0.6, 0.9)
GRID = [Design(items, *clustering) for items, clustering in product((200, 1000, 3000), CLUSTERINGS)]
GRID = [design for design in GRID if design.items >= 50 * design.cluster_size]
# What docs/verdict.md promises: at least 50 clusters, and enough items that change, or that are
# right and wrong.
SUPPORTED = [
    replace(design, lost=lost, gained=gained) for design, (lost, gained) in product(GRID, CHANGES)
]
SUPPORTED = [
    design
    for design in SUPPORTED
    if design.items * (design.lost + design.gained) >= 10 * design.design_effect
]
SUPPORTED += [
    Design(1000, 4, 0.1, 0.1, 0.05, graded=True),
    Design(200, 1, 0.0, 0.3, 0.2, graded=True),
]
SUPPORTED_ACCURACIES = [
    (design, accuracy)
    for design, accuracy in product(GRID, ACCURACIES)
    if design.items * min(accuracy, 1 - accuracy) >= 20 * design.design_effect
]
UNSUPPORTED = (
    Design(300, lost=0.01, gained=0.0),  # a handful of changes
    Design(1000, 10, 0.9, 0.01, 0.0),  # rare changes of whole clusters
    Design(300, 30, 0.1, 0.1, 0.1),  # about ten unequal clusters
    Design(300, 30, 0.3, 0.05, 0.05),
)
BETTER_DOMAIN = Design(760, 2, 0.06, lost=0.05, gained=0.2)
DEMO_DOMAIN = Design(760, 2, 0.06, lost=0.1, gained=0.15)
DEMO_ITEMS = 2200
DEMO_CATEGORIES = 8


@dataclass(frozen=True)
class Repetitions:
    """How often each row draws."""

    evaluations: int = 3000
    intervals: int = 6000  # the noise of one row's coverage is then 0.3 points
    resampled: int = 2000  # intervals that the bootstrap also computes


@dataclass(frozen=True)
class Run:
    """What a row needs besides its design: a random generator of its own, and how often to draw."""

    draw: Generator
    repetitions: Repetitions


def drawn_comparison(
    domain: Design,
    categories: list[Design],
    draw: Generator,
    *,
    margin: float,
    category_margin: float,
) -> Comparison:
    """The comparison of a newly drawn evaluation."""
    before, after = draw_evaluation(domain, categories, draw)
    return compare(
        before, after, margin=margin, category_margin=category_margin, significance=SIGNIFICANCE
    )


def outcome(comparison: Comparison) -> str:
    """SHIP, HOLD or INCONCLUSIVE."""
    return judge(comparison, [], significance=SIGNIFICANCE).outcome


def without_changes(design: Design) -> Row:
    """The design, without what happens to the items."""
    return {name: value for name, value in asdict(design).items() if name not in ("lost", "gained")}


def rate(hits: int, repetitions: int) -> dict[str, float]:
    """A rate and the 95 % interval of its simulation error (Wilson)."""
    low, high = wilson_interval(hits, repetitions, float(ndtri(0.975)))
    return {"rate": hits / repetitions, "low": round(low, 4), "high": round(high, 4)}


def change_coverage(run: Run, design: Design) -> Row:
    """How often 95 % intervals of a change hold the truth.

    Three kinds: ours, the percentile cluster bootstrap, and one that takes items for independent.
    """
    hits = dict.fromkeys(("coverage", "naive"), 0)
    clusters = draw_clusters(design, run.draw)
    times, resampled_times = run.repetitions.intervals, run.repetitions.resampled
    z = float(ndtri(1 - INTERVAL_SIGNIFICANCE))
    kept = []
    for repetition in range(times):
        before, after = draw_pair(design, clusters, run.draw)
        ours = paired_change(before, after, clusters, INTERVAL_SIGNIFICANCE)
        half = z * float(np.std(after - before)) / np.sqrt(design.items)
        hits["coverage"] += ours.interval[0] <= design.change <= ours.interval[1]
        hits["naive"] += bool(abs(ours.difference - design.change) <= half)
        if repetition < resampled_times:
            kept.append(np.bincount(clusters, weights=after - before))
    sizes = np.bincount(clusters).astype(float)
    resampled = bootstrap_ratio(
        np.stack(kept), sizes, np.arange(len(sizes)), significance=INTERVAL_SIGNIFICANCE, seed=SEED
    )
    covered = sum(low <= design.change <= high for low, high in resampled)
    return {
        "kind": "coverage of a change",
        **asdict(design),
        "clusters": len(sizes),
        **{name: count / times for name, count in hits.items()},
        "cluster_bootstrap": covered / len(kept),
    }


def accuracy_coverage(run: Run, design: Design, accuracy: float) -> Row:
    """How often 95 % intervals of an accuracy hold the truth.

    Two kinds: ours, and Wilson's, which takes items for independent.
    """
    ours = naive = 0
    clusters = draw_clusters(design, run.draw)
    times, z = run.repetitions.intervals, float(ndtri(1 - INTERVAL_SIGNIFICANCE))
    for _ in range(times):
        fates = draw_fates((accuracy, 1 - accuracy), clusters, design.correlation, run.draw)
        scores = 1.0 - fates
        low, high = accuracy_interval(scores, clusters, INTERVAL_SIGNIFICANCE)
        ours += low <= accuracy <= high
        low, high = wilson_interval(scores.sum(), len(scores), z)
        naive += low <= accuracy <= high
    found = {"coverage": ours / times, "naive": naive / times}
    return {
        "kind": "coverage of an accuracy",
        **without_changes(design),
        "accuracy": accuracy,
        **found,
    }


def false_hold(run: Run, design: Design, categories: int) -> Row:
    """How often a model that lost nothing gets HOLD, with margins so small that any loss holds."""
    tiny = {"margin": 1e-6, "category_margin": 1e-6}
    domain, times = replace(design, items=760), run.repetitions.evaluations
    held = 0
    for _ in range(times):
        comparison = drawn_comparison(domain, [design] * categories, run.draw, **tiny)
        held += outcome(comparison) == "HOLD"
    return {"kind": "false HOLD", **asdict(design), "categories": categories, **rate(held, times)}


def power_at_named_n(run: Run, lossy: Design) -> Row:
    """How often a loss as large as the margin is found on as many items as an evaluation asks for.

    Only the pooled margin can stop the model. `not_ship` is measured at the n named for the margin;
    `hold` at the n named to show a loss as large as the margin.
    """
    margins = {"margin": MARGIN, "category_margin": 0.5}
    named, not_ship, hold = [], 0, 0
    times = run.repetitions.evaluations
    for _ in range(times):
        seen = drawn_comparison(BETTER_DOMAIN, [lossy], run.draw, **margins).general
        to_show = items_needed(seen.change, MARGIN, SIGNIFICANCE / QUESTIONS)
        named.append((seen.items_needed, to_show))
        at_margin, at_show = (
            drawn_comparison(BETTER_DOMAIN, [replace(lossy, items=n)], run.draw, **margins)
            for n in named[-1]
        )
        not_ship += outcome(at_margin) != "SHIP"
        hold += outcome(at_show) == "HOLD"
    median = np.median(named, axis=0).astype(int).tolist()
    return {
        "kind": "power at the named n",
        **asdict(lossy),
        "items_for_margin": median[0],
        "items_for_hold": median[1],
        "not_ship": rate(not_ship, times),
        "hold": rate(hold, times),
    }


def ship_rate(run: Run, category: Design) -> Row:
    """How often the demo's items ship when each of eight general categories changes like this."""
    margins = {"margin": MARGIN, "category_margin": 0.05}
    categories, times = [category] * DEMO_CATEGORIES, run.repetitions.evaluations
    outcomes = [
        outcome(drawn_comparison(DEMO_DOMAIN, categories, run.draw, **margins))
        for _ in range(times)
    ]
    rates = {name: outcomes.count(name) / times for name in ("SHIP", "HOLD", "INCONCLUSIVE")}
    return {"kind": "better domain, nothing lost", **asdict(category), **rates}


def false_noninferiority(run: Run, design: Design) -> Row:
    """How often a loss exactly at the margin passes as smaller, so that it could ship."""
    margins = {"margin": -design.change, "category_margin": 0.5}
    times = run.repetitions.evaluations
    passed = 0
    for _ in range(times):
        seen = drawn_comparison(BETTER_DOMAIN, [design], run.draw, **margins)
        passed += outcome(seen) == "SHIP"
    return {"kind": "false SHIP at the margin", **asdict(design), **rate(passed, times)}


def power_at_detectable_effect(run: Run, design: Design) -> Row:
    """How often items like those that named a smallest detectable loss show a loss of that size."""
    shown, effects, times = 0, [], run.repetitions.evaluations
    for _ in range(times):
        clusters = draw_clusters(design, run.draw)
        seen = paired_change(*draw_pair(design, clusters, run.draw), clusters, SIGNIFICANCE)
        effect = minimum_detectable_effect(seen, SIGNIFICANCE)
        churn = max(design.lost + design.gained, effect)
        lossy = replace(design, lost=(churn + effect) / 2, gained=(churn - effect) / 2)
        pair = draw_pair(lossy, clusters, run.draw)
        shown += paired_change(*pair, clusters, SIGNIFICANCE).worse_p <= SIGNIFICANCE
        effects.append(effect)
    return {
        "kind": "power at the detectable effect",
        **asdict(design),
        "effect": round(float(np.median(effects)), 4),
        **rate(shown, times),
    }


Measure = tuple[Callable[..., Row], tuple[object, ...]]


def measures() -> Iterator[Measure]:
    """What the benchmark measures, in order: each row's generator is seeded by its number."""
    for design in SUPPORTED:
        yield change_coverage, (design,)
    for pair in SUPPORTED_ACCURACIES:
        yield accuracy_coverage, pair
    for design in UNSUPPORTED:
        yield change_coverage, (design,)
    for items, kind, churn, categories in product((50, 275), TWO, (0.05, 0.2), (2, 8, 20)):
        yield false_hold, (Design(items, *kind, churn / 2, churn / 2), categories)
    for kind, churn in product(TWO, (0.05, 0.2)):
        yield power_at_named_n, (Design(DEMO_ITEMS, *kind, churn / 2 + 0.01, churn / 2 - 0.01),)
    for lost, gained in ((0.03, 0.03), (0.05, 0.05), (0.1, 0.1), (0.05, 0.07), (0.03, 0.155)):
        yield ship_rate, (Design(DEMO_ITEMS // DEMO_CATEGORIES, 2, 0.1, lost, gained),)
    for (lost, gained), kind in product(((0.06, 0.04), (0.02, 0.0)), (*TWO, (10, 0.9))):
        yield false_noninferiority, (Design(DEMO_ITEMS, *kind, lost, gained),)
    for items, churn in product((300, DEMO_ITEMS), (0.02, 0.1)):
        yield power_at_detectable_effect, (Design(items, 2, 0.1, churn / 2, churn / 2),)


def first_of_each(chosen: list[Measure]) -> list[Measure]:
    """The first row of each kind."""
    first: dict[Callable[..., Row], Measure] = {}
    for one in chosen:
        first.setdefault(one[0], one)
    return list(first.values())


def main() -> None:
    """Measure every row, and write the results."""
    arguments = benchmark_parser("verdict", __doc__).parse_args()
    repetitions = Repetitions(2, 4, 2) if arguments.smoke else Repetitions()
    chosen = list(measures())
    if arguments.smoke:
        chosen = first_of_each(chosen)
    rows: list[Row] = []
    for number, (measure, designs) in enumerate(chosen):
        run = Run(np.random.default_rng([SEED, number]), repetitions)
        row = measure(run, *designs)
        if designs[0] in UNSUPPORTED:
            row["kind"] = "coverage of a change, not promised"
        rows.append(row)
        print(row, flush=True)
    write_results(
        "verdict",
        arguments,
        headlines(rows),
        rows=rows,
        packages=["numpy", "scipy"],
        seeds=[SEED],
        repetitions=repetitions.evaluations,
    )


def headlines(rows: list[Row]) -> dict[str, float]:
    """The worst rates of what is promised."""
    promised = ("coverage of a change", "coverage of an accuracy")
    covered = [row["coverage"] for row in rows if row["kind"] in promised]
    held = [row["rate"] for row in rows if row["kind"] == "false HOLD"]
    powers = [row for row in rows if row["kind"] == "power at the named n"]
    found = [row[key]["rate"] for row, key in product(powers, ("not_ship", "hold"))]
    return {
        "false_hold_rate_max": max(held),
        "power_at_named_n_min": min(found),
        "coverage_min": min(covered),
        "coverage_max": max(covered),
    }


if __name__ == "__main__":
    main()
