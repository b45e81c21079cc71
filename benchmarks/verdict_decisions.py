"""How often the verdict errs, and how often it ships: rows of benchmarks/verdict.py.

Items are those of benchmarks/verdict_item_response.py. Every row judges the same evaluations twice:
by graded scores, and by right and wrong answers.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from scipy.special import ndtri

from benchmarks.verdict_batches import Batch, joined
from benchmarks.verdict_coverage import SIGNIFICANCE, Row, Run
from benchmarks.verdict_item_response import (
    CHANCE,
    Design,
    Truth,
    draw_batches,
    first_pairs,
    pool,
    truth_of,
)
from lmadapt.verdict.decision import QUESTIONS
from lmadapt.verdict.graded_scores import translated_margin
from lmadapt.verdict.statistics import (
    Array,
    PairedChange,
    items_needed,
    minimum_detectable_effect,
    paired_change,
    wilson_interval,
)

MARGIN, CATEGORY_MARGIN = 0.02, 0.05  # the defaults of params.yaml, in accuracy
SCORES = ("graded", "right")
DOMAIN = Design(760, "pairs", 0.1, level="middle", harm="shift")
DOMAIN_GAIN = 0.05
FIRST_EVALUATIONS = 40  # whose median names a number of items


def rate(hits: Array) -> dict[str, float]:
    """A rate and the 95 % interval of its simulation error (Wilson)."""
    low, high = wilson_interval(int(hits.sum()), len(hits), float(ndtri(0.975)))
    return {"rate": float(hits.mean()), "low": round(low, 4), "high": round(high, 4)}


def margins(graded: Batch, right: Batch, margin: float) -> dict[str, Array]:
    """The margin in each score, (r,); NaN where it cannot be translated on that reference."""
    translated = [
        translated_margin(margin, accuracy=accuracy, graded=mean, chance=CHANCE)
        for accuracy, mean in zip(
            right.moments[:, 0] / right.n, graded.moments[:, 0] / graded.n, strict=True
        )
    ]
    return {
        "graded": np.array([np.nan if one is None else one for one in translated]),
        "right": np.full(len(right.lost), margin),
    }


def within(batch: Batch, margin: Array) -> Array:
    """Whether a loss is shown to be smaller than the margin, (r,)."""
    bound = np.where(np.isnan(margin), -1.0, -margin)
    return (batch.p_above(bound) <= SIGNIFICANCE) & ~np.isnan(margin)


def at_margin(run: Run, design: Design, margin: float) -> Row:
    """How often a true loss as large as the margin passes as smaller, so that it could ship.

    SHIP needs more tests to pass, so this is the largest rate at which such a model ships.
    """
    rates = {}
    knowledge = pool(design.level, design.churn).knowledge
    pair: tuple[Batch, ...] = ()
    for score, name in enumerate(SCORES):
        loss = margin * knowledge[score] / knowledge[1]
        if not pair or design.harm == "shift":  # whole items cost the margin in both scores
            truth = truth_of(design, score, -loss)
            pair = draw_batches(design, truth, run.draw, run.repetitions)
        rates[name] = rate(within(pair[score], margins(*pair, margin)[name]))
    return {"kind": "loss at the margin passes", **asdict(design), "margin": margin, **rates}


def false_hold(run: Run, design: Design, categories: int) -> Row:
    """How often a model that lost nothing gets HOLD, with margins so small that any loss holds."""
    rates = {}
    for score, name in enumerate(SCORES):
        truth = truth_of(design, score, 0.0)
        parts = [
            draw_batches(design, truth, run.draw, run.repetitions)[score] for _ in range(categories)
        ]
        domain = draw_batches(DOMAIN, truth_of(DOMAIN, score, 0.0), run.draw, run.repetitions)[
            score
        ]
        rates[name] = rate(shown_worse(domain, parts))
    return {"kind": "false HOLD", **asdict(design), "categories": categories, **rates}


def shown_worse(domain: Batch, categories: Sequence[Batch]) -> Array:
    """Whether the domain, general ability or a category is shown to be worse, as `compare` does.

    The first step of Holm's procedure decides whether any category is.
    """
    worst = np.min([part.worse_p() for part in categories], axis=0) * len(categories)
    families = [domain.worse_p(), joined(categories).worse_p(), worst]
    return np.asarray(np.min(families, axis=0) * QUESTIONS <= SIGNIFICANCE)


def ship_rate(run: Run, category: Design, categories: int) -> Row:
    """How often a model ships that lost nothing, and whose domain accuracy gained 5 points."""
    domain_truth = truth_of(DOMAIN, 1, DOMAIN_GAIN)
    domain = draw_batches(DOMAIN, domain_truth, run.draw, run.repetitions)
    shipped = [batch.better_p() <= SIGNIFICANCE for batch in domain]
    truth = truth_of(category, 1, 0.0)
    parts = []
    for _ in range(categories):
        pair = draw_batches(category, truth, run.draw, run.repetitions)
        accepted = margins(*pair, CATEGORY_MARGIN)
        for score, name in enumerate(SCORES):
            shipped[score] &= within(pair[score], accepted[name])
        parts.append(pair)
    whole = [joined([pair[score] for pair in parts]) for score in (0, 1)]
    accepted = margins(whole[0], whole[1], MARGIN)
    rates = {}
    for score, name in enumerate(SCORES):
        rates[name] = rate(shipped[score] & within(whole[score], accepted[name]))
    right = whole[1]
    return {
        "kind": "SHIP of a better domain, nothing lost",
        **asdict(category),
        "categories": categories,
        "lost": round(float(right.lost.mean()) / right.n, 4),
        "gained": round(float(right.gained.mean()) / right.n, 4),
        **rates,
    }


def power_at_named_n(run: Run, design: Design) -> Row:
    """How often as many items as a first evaluation names settle a margin, or show such a loss.

    `within`: nothing is lost, at the n named for the margin. `shown`: a loss as large as the margin
    at the n named to show it at HOLD's share of the level.
    """
    rates: Row = {}
    for score, name in enumerate(SCORES):
        truth, loss = truth_of(design, score, 0.0), _margin_in(score, design)
        firsts = _first_changes(run, design, truth, score)
        named = [items_needed(one, loss, SIGNIFICANCE) for one in firsts]
        to_show = [items_needed(one, loss, SIGNIFICANCE / QUESTIONS) for one in firsts]
        n, n_to_show = (int(np.median(counts)) for counts in (named, to_show))
        same = draw_batches(replace(design, items=n), truth, run.draw, run.repetitions)[score]
        certainty = float(np.median([one.n * one.standard_error**2 for one in firsts])) / loss**2
        lossy = replace(design, items=n_to_show)
        worse = draw_batches(lossy, truth_of(lossy, score, -loss), run.draw, run.repetitions)[score]
        rates |= {
            f"{name}_items": n,
            f"{name}_items_to_show": n_to_show,
            f"{name}_variance_over_squared_margin": round(certainty, 2),
            f"{name}_within": rate(same.p_above(-loss) <= SIGNIFICANCE),
            f"{name}_shown": rate(QUESTIONS * worse.worse_p() <= SIGNIFICANCE),
        }
    return {"kind": "power at the named n", **asdict(design), **rates}


def power_at_detectable_effect(run: Run, design: Design) -> Row:
    """How often items like those that named a smallest detectable loss show a loss of that size."""
    rates: Row = {}
    for score, name in enumerate(SCORES):
        firsts = _first_changes(run, design, truth_of(design, score, 0.0), score)
        effects = [minimum_detectable_effect(one, SIGNIFICANCE) for one in firsts]
        effect = float(np.median(effects))
        truth = truth_of(design, score, -effect)
        lossy = draw_batches(design, truth, run.draw, run.repetitions)[score]
        rates |= {
            f"{name}_effect": round(effect, 4),
            name: rate(lossy.worse_p() <= SIGNIFICANCE),
        }
    return {"kind": "power at the detectable effect", **asdict(design), **rates}


def _margin_in(score: int, design: Design) -> float:
    knowledge = pool(design.level, design.churn).knowledge
    return float(MARGIN * knowledge[score] / knowledge[1])


def _first_changes(run: Run, design: Design, truth: Truth, score: int) -> list[PairedChange]:
    found = []
    for _ in range(min(FIRST_EVALUATIONS, run.repetitions)):
        before, after, clusters = first_pairs(design, truth, run.draw)
        found.append(
            paired_change(before[score], after[score], clusters, SIGNIFICANCE, graded=score == 0)
        )
    return found
