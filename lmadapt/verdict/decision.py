"""Decides whether the adapted model may be shipped: a pure function of paired results.

docs/verdict.md explains the rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmadapt.verdict.alarms import Alarm, BehaviourTest
from lmadapt.verdict.clauses import Findings, evidence, harms, open_questions, reservations
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
from lmadapt.verdict.wording import points, sentence

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


@dataclass(frozen=True)
class Verdict:
    """The outcome, one sentence that says why, what to know before shipping, and every figure."""

    outcome: Outcome
    reason: str
    reservations: list[str]
    evidence: list[str]


def judge(
    comparison: Comparison,
    critical_lost: Sequence[str],
    *,
    significance: float,
    alarms: Sequence[Alarm] = (),
    behaviours: Sequence[BehaviourTest] = (),
) -> Verdict:
    """SHIP, HOLD or INCONCLUSIVE.

    HOLD: something is shown to be worse. This is a critical behaviour in `critical_lost`; a family
    of `behaviours` of which more are lost than gained; the domain or one of its categories; general
    ability (as a whole or in a category) whose loss is not shown to be smaller than its margin; or
    one of `alarms` that is shown to be above its margin. These questions share the level evenly
    (Bonferroni), and the categories of a group share theirs by Holm's procedure. So a model that
    lost nothing is held with a probability of at most `significance`.

    SHIP: the domain is shown to be better by more than the smallest gain, and general ability to be
    non-inferior as a whole and in every category that can show a loss. All of these tests must
    succeed, so each has the full level: an intersection-union test (Berger 1982). No alarm may be
    above its margin, even if that is not shown. Reservations name what is accepted: losses that are
    shown but within their margin, categories that cannot be measured, single lost behaviours.

    INCONCLUSIVE: neither is shown. The reason says how many items would settle it.
    """
    found = Findings(comparison, critical_lost, alarms, behaviours, significance)
    outcome: Outcome = "SHIP"
    reasons = [_reason_to_ship(comparison)]
    if harm := harms(found):
        outcome, reasons = "HOLD", harm
    elif questions := open_questions(found):
        outcome, reasons = "INCONCLUSIVE", questions
    return Verdict(outcome, sentence(reasons), reservations(found), evidence(found))


def _reason_to_ship(comparison: Comparison) -> str:
    measured = [test for test in comparison.categories.values() if test.measurable]
    reason = (
        f"the domain became better by {points(comparison.domain.difference)}, and any loss of "
        f"general ability is shown to be smaller than {points(comparison.general.margin)} as a "
        "whole"
    )
    if not measured:
        return reason
    margin = max(test.margin for test in measured)
    return f"{reason} and {points(margin)} in each of {len(measured)} categories"
