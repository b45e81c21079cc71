"""Decides whether the adapted model may be shipped: a pure function of paired results.

docs/verdict.md explains the rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmadapt.verdict.comparison import (
    MIN_ITEMS,
    QUESTIONS,
    Comparison,
    HarmTest,
    MarginTest,
    Scored,
    compare,
)
from lmadapt.verdict.figures import Outcome
from lmadapt.verdict.statistics import PairedChange, items_needed, minimum_detectable_effect

__all__ = [
    "MIN_ITEMS",
    "QUESTIONS",
    "Comparison",
    "HarmTest",
    "MarginTest",
    "Scored",
    "Verdict",
    "compare",
    "judge",
]

MAX_REASONS = 3  # in the reason; the evidence holds all of them


@dataclass(frozen=True)
class Verdict:
    """The outcome, one sentence that says why, and every figure behind it."""

    outcome: Outcome
    reason: str
    evidence: list[str]


def judge(comparison: Comparison, critical_lost: Sequence[str], *, significance: float) -> Verdict:
    """SHIP, HOLD or INCONCLUSIVE.

    HOLD: something is shown to be worse. This is a critical behaviour in `critical_lost`, the
    domain or one of its categories, or general ability (as a whole or in a category) whose loss is
    not shown to be smaller than its margin. The domain, its categories, general ability and its
    categories share the level evenly (Bonferroni), and the categories of a group share theirs by
    Holm's procedure. So a model that lost nothing is held with a probability of at most
    `significance`.

    SHIP: the domain is shown to be better, and general ability to be non-inferior as a whole and in
    every category. All of these tests must succeed, so each has the full level: an
    intersection-union test (Berger 1982).

    INCONCLUSIVE: neither is shown. The reason says how many items would settle it.
    """
    harms = _harms(comparison, critical_lost, significance)
    evidence = _evidence(comparison, critical_lost, significance)
    if harms:
        return Verdict("HOLD", _sentence(harms), evidence)
    unsettled = _unsettled(comparison, significance)
    if unsettled:
        return Verdict("INCONCLUSIVE", _sentence(unsettled), evidence)
    return Verdict("SHIP", _sentence([_reason_to_ship(comparison)]), evidence)


def _tests(comparison: Comparison) -> dict[str, MarginTest]:
    return {"general ability": comparison.general, **comparison.categories}


def _domain(comparison: Comparison) -> HarmTest:
    return HarmTest(comparison.domain, comparison.domain_worse_p_adjusted)


def _in_domain(name: str) -> str:
    return f"{name} (domain)"


def _evidence(
    comparison: Comparison, critical_lost: Sequence[str], significance: float
) -> list[str]:
    """One line for each question: the domain, general ability, categories, lost behaviours."""
    return [
        _gain_line("domain", _domain(comparison)),
        *(
            _gain_line(_in_domain(name), test)
            for name, test in comparison.domain_categories.items()
        ),
        *(_margin_line(name, test, significance) for name, test in _tests(comparison).items()),
        *(f"critical behaviour lost: {name}" for name in critical_lost),
    ]


def _harms(comparison: Comparison, critical_lost: Sequence[str], significance: float) -> list[str]:
    """What is shown to be worse, as clauses."""
    harms = [f"the critical behaviour {name} was lost" for name in critical_lost]
    in_domain = {_in_domain(name): test for name, test in comparison.domain_categories.items()}
    harms += [
        f"{name} became worse by {_points(-test.change.difference)}"
        for name, test in {"the domain": _domain(comparison), **in_domain}.items()
        if test.worse_p_adjusted <= significance
    ]
    harms += [
        f"{name} became worse by {_points(-test.change.difference)}, "
        f"and the loss may reach {_points(-test.change.interval[0])}"
        for name, test in _tests(comparison).items()
        if test.harmful(significance)
    ]
    return harms


def _unsettled(comparison: Comparison, significance: float) -> list[str]:
    """What is not shown to be good enough to ship, as clauses."""
    clauses = _domain_question(comparison.domain, significance)
    for name, test in _tests(comparison).items():
        if not test.acceptable(significance):
            family = QUESTIONS
            if test is not comparison.general:
                family *= len(comparison.categories)
            clauses.append(
                f"{name} is not shown to have lost less than {_points(test.margin)} "
                f"({_to_settle(test, significance, family)})"
            )
    return clauses


def _reason_to_ship(comparison: Comparison) -> str:
    category_margin = max(test.margin for test in comparison.categories.values())
    return (
        f"the domain became better by {_points(comparison.domain.difference)}, and any loss of "
        f"general ability is shown to be smaller than {_points(comparison.general.margin)} as a "
        f"whole and {_points(category_margin)} in each of {len(comparison.categories)} categories"
    )


def _domain_question(domain: PairedChange, significance: float) -> list[str]:
    if domain.better_p <= significance:
        return []
    if domain.difference > 0:
        needed = items_needed(domain, domain.difference, significance)
        seen = f"a true gain of this size needs about {needed:,} items, there are {domain.n:,}"
    else:
        smallest = minimum_detectable_effect(domain, significance)
        seen = f"{domain.n:,} items show gains from {_points(smallest)} upwards"
    return [
        f"the domain is not shown to be better ({_points(domain.difference, sign=True)}; {seen})"
    ]


def _gain_line(name: str, test: HarmTest) -> str:
    shown = f"p = {test.change.better_p:.3g} against not better"
    return _line(name, test.change, shown, test.worse_p_adjusted)


def _line(name: str, change: PairedChange, shown: str, worse_p_adjusted: float) -> str:
    low, high = change.interval
    return (
        f"{name}: {_points(change.difference, sign=True)} [{low * 100:+.1f}, {high * 100:+.1f}] "
        f"on {change.n:,} items, {change.lost} lost, {change.gained} gained, {shown}, "
        f"p = {worse_p_adjusted:.3g} (adjusted) against not worse"
    )


def _margin_line(name: str, test: MarginTest, significance: float) -> str:
    outcome = "shown to be within" if test.acceptable(significance) else "not shown to be within"
    shown = f"{outcome} the margin of {_points(test.margin)} (p = {test.noninferiority_p:.3g})"
    return _line(name, test.change, shown, test.worse_p_adjusted)


def _to_settle(test: MarginTest, significance: float, family: int) -> str:
    """How many items would show that a loss of the size seen is acceptable, or that it is harmful.

    The smaller of the two counts. `family`: how many tests share the level of "shown worse".
    """
    change, loss = test.change, max(0.0, -test.change.difference)
    needed = []
    if loss < test.margin:
        needed.append(items_needed(change, test.margin - loss, significance))
    if loss > 0:
        needed.append(items_needed(change, loss, significance / family))
    return (
        f"{_points(change.difference, sign=True)} on {change.n:,} items; "
        f"about {max(min(needed), change.n + 1):,} would settle a change of that size"
    )


def _points(share: float, *, sign: bool = False) -> str:
    points = share * 100
    return f"{points:+.1f} points" if sign else f"{points:.1f} points"


def _sentence(parts: Sequence[str]) -> str:
    shown = list(parts[:MAX_REASONS])
    if len(parts) > MAX_REASONS:
        shown.append(f"and {len(parts) - MAX_REASONS} more like it, among the evidence")
    text = "; ".join(shown)
    return f"{text[0].upper()}{text[1:]}."
