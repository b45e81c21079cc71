"""Does the verdict keep its promises? Evaluations with a known truth, judged by the real `compare` and `judge`."""

from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product

import numpy as np
from numpy.random import Generator
from scipy.special import ndtri

from benchmarks.known_truth import Design, draw_clusters, draw_evaluation, draw_fates, draw_pair
from benchmarks.record import write_results
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
BOOTSTRAP_REPETITIONS = 2000
REPETITIONS = 3000  # of whole evaluations
COVERAGE_REPETITIONS = (
    6000  # of single intervals: the noise of one row's coverage is then 0.3 points
)
INTERVAL_SIGNIFICANCE = 0.025  # intervals of 95 %
SIGNIFICANCE = 0.05  # the default of evaluate.significance
MARGIN = 0.02
Row = dict[str, object]


CLUSTERINGS = ((1, 0.0), (4, 0.1), (4, 0.3), (10, 0.1))  # mean size, correlation
TWO = ((1, 0.0), (4, 0.3))
CHANGES = ((0.025, 0.025), (0.05, 0.05), (0.07, 0.05), (0.1, 0.1), (0.1, 0.05))  # lost, gained
ACCURACIES = (0.3, 0.6, 0.9)
GRID = [Design(items, *clustering) for items, clustering in product((200, 1000, 3000), CLUSTERINGS)]
GRID = [design for design in GRID if design.items >= 50 * design.cluster_size]
# Supported (docs/verdict.md): at least 50 clusters, and enough changed, or right and wrong, items.
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
    Design(300, 30, 0.1, 0.1, 0.1),  # some ten unequal clusters
    Design(300, 30, 0.3, 0.05, 0.05),
)
BETTER_DOMAIN = Design(760, 2, 0.06, lost=0.05, gained=0.2)
DEMO_DOMAIN = Design(760, 2, 0.06, lost=0.1, gained=0.15)
DEMO_ITEMS = 2200
DEMO_CATEGORIES = 8


def compare_drawn(
    domain: Design,
    categories: list[Design],
    draw: Generator,
    *,
    margin: float,
    category_margin: float,
) -> Comparison:
    """The comparison of an evaluation drawn anew."""
    before, after = draw_evaluation(domain, categories, draw)
    return compare(
        before, after, margin=margin, category_margin=category_margin, significance=SIGNIFICANCE
    )


def outcome(comparison: Comparison) -> str:
    """SHIP, HOLD or INCONCLUSIVE."""
    return judge(comparison, [], significance=SIGNIFICANCE).outcome


def place(design: Design) -> Row:
    """The design without what happened to the items."""
    return {name: value for name, value in asdict(design).items() if name not in ("lost", "gained")}


def share(hits: int, repetitions: int) -> dict[str, float]:
    """A rate and the 95 % interval of its simulation error (Wilson)."""
    low, high = wilson_interval(hits, repetitions, float(ndtri(0.975)))
    return {"rate": hits / repetitions, "low": round(low, 4), "high": round(high, 4)}


def change_coverage(design: Design, draw: Generator) -> Row:
    """How often intervals of a change hold the truth: ours, the percentile cluster bootstrap, and the naive one."""
    hits = dict.fromkeys(("coverage", "naive"), 0)
    clusters = draw_clusters(design, draw)
    kept = []
    for repetition in range(COVERAGE_REPETITIONS):
        before, after = draw_pair(design, clusters, draw)
        ours = paired_change(before, after, clusters, INTERVAL_SIGNIFICANCE)
        half = (
            float(ndtri(1 - INTERVAL_SIGNIFICANCE))
            * float(np.std(after - before))
            / np.sqrt(design.items)
        )
        hits["coverage"] += ours.interval[0] <= design.change <= ours.interval[1]
        hits["naive"] += bool(abs(ours.difference - design.change) <= half)
        if repetition < BOOTSTRAP_REPETITIONS:
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
        **{name: count / COVERAGE_REPETITIONS for name, count in hits.items()},
        "cluster_bootstrap": covered / BOOTSTRAP_REPETITIONS,
    }


def accuracy_coverage(design: Design, accuracy: float, draw: Generator) -> Row:
    """How often intervals of an accuracy hold the truth: ours, and Wilson's that takes items for independent."""
    ours = naive = 0
    clusters = draw_clusters(design, draw)
    for _ in range(COVERAGE_REPETITIONS):
        scores = 1.0 - draw_fates((accuracy, 1 - accuracy), clusters, design.correlation, draw)
        low, high = accuracy_interval(scores, clusters, INTERVAL_SIGNIFICANCE)
        ours += low <= accuracy <= high
        low, high = wilson_interval(
            scores.sum(), len(scores), float(ndtri(1 - INTERVAL_SIGNIFICANCE))
        )
        naive += low <= accuracy <= high
    covered = {"coverage": ours / COVERAGE_REPETITIONS, "naive": naive / COVERAGE_REPETITIONS}
    return {"kind": "coverage of an accuracy", **place(design), "accuracy": accuracy, **covered}


def false_hold(design: Design, categories: int, draw: Generator) -> Row:
    """How often HOLD meets a model that lost nothing, under margins so small that every shown loss holds."""
    tiny = {"margin": 1e-6, "category_margin": 1e-6}
    drawn = (
        compare_drawn(replace(design, items=760), [design] * categories, draw, **tiny)
        for _ in range(REPETITIONS)
    )
    held = sum(outcome(comparison) == "HOLD" for comparison in drawn)
    return {
        "kind": "false HOLD",
        **asdict(design),
        "categories": categories,
        **share(held, REPETITIONS),
    }


def power_at_named_n(lossy: Design, draw: Generator) -> Row:
    """How often a loss as large as the margin is found on as many items as a first evaluation of that model named.

    Only the pooled margin can stop the model. `not_ship`: at the n named for the margin; `hold`: at the n named to
    show a loss as large as the margin, which is what the reason counts in.
    """
    margins = {"margin": MARGIN, "category_margin": 0.5}
    named, not_ship, hold = [], 0, 0
    for _ in range(REPETITIONS):
        seen = compare_drawn(BETTER_DOMAIN, [lossy], draw, **margins).general
        named.append(
            (seen.items_needed, items_needed(seen.change, MARGIN, SIGNIFICANCE / QUESTIONS))
        )
        again = [
            compare_drawn(BETTER_DOMAIN, [replace(lossy, items=n)], draw, **margins)
            for n in named[-1]
        ]
        not_ship += outcome(again[0]) != "SHIP"
        hold += outcome(again[1]) == "HOLD"
    median = np.median(named, axis=0).astype(int).tolist()
    found = {"not_ship": share(not_ship, REPETITIONS), "hold": share(hold, REPETITIONS)}
    numbers = {"items_for_margin": median[0], "items_for_hold": median[1]}
    return {"kind": "power at the named n", **asdict(lossy), **numbers, **found}


def ship_rate(category: Design, draw: Generator) -> Row:
    """How often SHIP meets the demo's items when each of eight general categories changed like this."""
    margins = {"margin": MARGIN, "category_margin": 0.05}
    drawn = (
        compare_drawn(DEMO_DOMAIN, [category] * DEMO_CATEGORIES, draw, **margins)
        for _ in range(REPETITIONS)
    )
    outcomes = [outcome(comparison) for comparison in drawn]
    rates = {name: outcomes.count(name) / REPETITIONS for name in ("SHIP", "HOLD", "INCONCLUSIVE")}
    return {"kind": "better domain, nothing lost", **asdict(category), **rates}


def false_noninferiority(design: Design, draw: Generator) -> Row:
    """How often a loss exactly at the margin passes as smaller, and so could be shipped."""
    passed = 0
    for _ in range(REPETITIONS):
        seen = compare_drawn(
            BETTER_DOMAIN, [design], draw, margin=-design.change, category_margin=0.5
        )
        passed += outcome(seen) == "SHIP"
    return {"kind": "false SHIP at the margin", **asdict(design), **share(passed, REPETITIONS)}


def power_at_detectable_effect(design: Design, draw: Generator) -> Row:
    """How often a loss of the printed minimum detectable effect is shown by items like those that printed it."""
    shown, effects = 0, []
    for _ in range(REPETITIONS):
        clusters = draw_clusters(design, draw)
        effect = minimum_detectable_effect(
            paired_change(*draw_pair(design, clusters, draw), clusters, SIGNIFICANCE), SIGNIFICANCE
        )
        churn = max(design.lost + design.gained, effect)
        lossy = replace(design, lost=(churn + effect) / 2, gained=(churn - effect) / 2)
        pair = draw_pair(lossy, clusters, draw)
        shown += paired_change(*pair, clusters, SIGNIFICANCE).worse_p <= SIGNIFICANCE
        effects.append(effect)
    median = round(float(np.median(effects)), 4)
    return {
        "kind": "power at the detectable effect",
        **asdict(design),
        "effect": median,
        **share(shown, REPETITIONS),
    }


def run() -> None:
    """Everything, about eight minutes on one core."""
    rows: list[Row] = []

    def record(measure: Callable[..., Row], *arguments: object) -> Row:
        rows.append(measure(*arguments, np.random.default_rng([SEED, len(rows)])))
        print(rows[-1], flush=True)
        return rows[-1]

    covered = [record(change_coverage, design)["coverage"] for design in SUPPORTED]
    covered += [record(accuracy_coverage, *pair)["coverage"] for pair in SUPPORTED_ACCURACIES]
    for design in UNSUPPORTED:
        record(change_coverage, design)["kind"] = "coverage of a change, not promised"
    same = [
        Design(items, *kind, churn / 2, churn / 2)
        for items, kind, churn in product((50, 275), TWO, (0.05, 0.2))
    ]
    held = [record(false_hold, *pair)["rate"] for pair in product(same, (2, 8, 20))]
    lossy = [
        Design(DEMO_ITEMS, *kind, churn / 2 + 0.01, churn / 2 - 0.01)
        for kind, churn in product(TWO, (0.05, 0.2))
    ]
    planted = [record(power_at_named_n, design) for design in lossy]
    for lost, gained in ((0.03, 0.03), (0.05, 0.05), (0.1, 0.1), (0.05, 0.07), (0.03, 0.155)):
        record(ship_rate, Design(DEMO_ITEMS // DEMO_CATEGORIES, 2, 0.1, lost, gained))
    for (lost, gained), kind in product(((0.06, 0.04), (0.02, 0.0)), (*TWO, (10, 0.9))):
        record(false_noninferiority, Design(DEMO_ITEMS, *kind, lost, gained))
    for items, churn in product((300, DEMO_ITEMS), (0.02, 0.1)):
        record(power_at_detectable_effect, Design(items, 2, 0.1, churn / 2, churn / 2))
    found = [row[key]["rate"] for row in planted for key in ("not_ship", "hold")]
    measurements = {
        "false_hold_rate_max": max(held),
        "power_at_named_n_min": min(found),
        "coverage_min": min(covered),
        "coverage_max": max(covered),
    }
    write_results(
        "verdict",
        measurements,
        rows=rows,
        packages=["numpy", "scipy"],
        seeds=[SEED],
        repetitions=REPETITIONS,
    )


if __name__ == "__main__":
    run()
