"""Judges per-item results of other evaluation programs with the statistics of the verdict.

The schema in docs/ is generated from GateFigures: `python -m lmadapt.evaluation.gate >
docs/gate.schema.json`. This module loads neither torch nor a model.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
from pydantic import Field

from lmadapt.core.errors import UserError, did_you_mean
from lmadapt.evaluation.paired_results import Pair, pair_results
from lmadapt.sources.item_scores import Results
from lmadapt.verdict.comparison import MarginTest, Scored, compare
from lmadapt.verdict.decision import Verdict, judge
from lmadapt.verdict.figures import (
    Count,
    Figures,
    Interval,
    Outcome,
    Positive,
    Share,
    schema_text,
)
from lmadapt.verdict.noninferiority import compare_losses, judge_losses
from lmadapt.verdict.statistics import PairedChange

WHOLE = "all"  # the row of everything together, where no domain is named


@dataclass(frozen=True)
class GateSettings:
    """The defaults are those of `evaluate` in recipes/defaults.yaml."""

    margin: float = 0.02  # largest acceptable loss over all general items
    category_margin: float = 0.05  # largest acceptable loss in a single general category
    significance: float = 0.05  # one-sided level of each test
    domain: tuple[str, ...] = ()  # tasks or categories, with wildcards; the rest is general


class GateRow(Figures):
    """How the scores of one category changed, or of a group as a whole."""

    name: str
    group: str = Field(description="domain, general, or all where no domain is named.")
    whole: bool = Field(description="Whether the row is of a whole group, not of a category.")
    before: Share = Field(description="Mean score before.")
    after: Share = Field(description="Mean score after.")
    difference: float = Field(ge=-1, le=1, description="after - before.")
    interval: Interval
    n: Positive = Field(description="Number of items.")
    clusters: Positive = Field(description="Number of clusters; items of one are correlated.")
    lost: Count = Field(description="Items whose score fell.")
    gained: Count = Field(description="Items whose score rose.")
    better_p: Share = Field(description='One-sided test against "not better".')
    worse_p: Share = Field(description='One-sided test against "not worse".')
    margin: float | None = Field(description="The largest loss accepted; null where none is.")
    noninferiority_p: Share | None = Field(
        description='One-sided test against "the score fell by the margin or more".'
    )
    worse_p_adjusted: Share | None = Field(
        description="worse_p, adjusted for the number of questions (Bonferroni and Holm)."
    )
    items_needed: Positive | None = Field(
        description="How many items would show four times out of five that the loss is below the "
        "margin, if nothing was lost."
    )


class GateFigures(Figures):
    """What `lmadapt gate BEFORE AFTER` found.

    Shares are of 1. Intervals are two-sided with confidence 1 - 2 * significance.
    """

    outcome: Outcome
    reason: str = Field(min_length=1, description="One sentence.")
    reservations: list[str] = Field(description="Losses that are shown though within margin.")
    evidence: list[str] = Field(description="Every figure behind the outcome, one line a question.")
    notes: list[str] = Field(description="What was chosen, averaged or found to differ.")
    rows: list[GateRow] = Field(description="Groups as a whole, then their categories.")
    before: str = Field(description="The file or folder of the earlier model.")
    after: str = Field(description="The file or folder of the later model.")
    scored_by: dict[str, str] = Field(description="By task: the metric.")
    domain: list[str] = Field(description="Names given as the domain; [] asks for no gain.")
    margin: float
    category_margin: float
    significance: float


def judge_results(
    before: Results, after: Results, settings: GateSettings
) -> tuple[Verdict, list[GateRow], list[str]]:
    """The verdict on two models' results, its rows, and notes on how they were read.

    With a domain (`settings.domain`, or groups in the files) the verdict is that of
    `lmadapt.verdict.decision.judge`; else that of `judge_losses`. Raises UserError when the results
    cannot be paired or judged.
    """
    pairs, notes = pair_results(before, after)
    groups = _groups(pairs, settings.domain)
    earlier, later = _scored(pairs, groups)
    rows = _Rows(earlier, later, settings.significance)
    if groups is None:
        losses = compare_losses(
            earlier,
            later,
            margin=settings.margin,
            category_margin=settings.category_margin,
            significance=settings.significance,
        )
        verdict = judge_losses(losses, significance=settings.significance)
        found = [rows.tested(WHOLE, WHOLE, losses.whole)]
        found += [rows.tested(name, WHOLE, test) for name, test in losses.categories.items()]
        return verdict, found, notes
    comparison = compare(
        earlier,
        later,
        margin=settings.margin,
        category_margin=settings.category_margin,
        significance=settings.significance,
    )
    verdict = judge(comparison, [], significance=settings.significance)
    domain = rows.row("domain", "domain", comparison.domain)
    return (
        verdict,
        [
            domain.model_copy(update={"worse_p_adjusted": comparison.domain_worse_p_adjusted}),
            *(
                rows.row(name, "domain", test.change).model_copy(
                    update={"worse_p_adjusted": _six_digits(test.worse_p_adjusted)}
                )
                for name, test in comparison.domain_categories.items()
            ),
            rows.tested("general", "general", comparison.general),
            *(rows.tested(name, "general", test) for name, test in comparison.categories.items()),
        ],
        notes,
    )


def gate_figures(
    before: Results, after: Results, settings: GateSettings, paths: tuple[str, str]
) -> GateFigures:
    """All figures of one gate; `paths` name the two sides. Raises UserError as `judge_results`."""
    verdict, rows, notes = judge_results(before, after, settings)
    return GateFigures(
        outcome=verdict.outcome,
        reason=verdict.reason,
        reservations=verdict.reservations,
        evidence=verdict.evidence,
        notes=notes,
        rows=rows,
        before=paths[0],
        after=paths[1],
        scored_by=before.scored_by,
        domain=list(settings.domain),
        margin=settings.margin,
        category_margin=settings.category_margin,
        significance=settings.significance,
    )


def _groups(pairs: Sequence[Pair], domain: Sequence[str]) -> list[str] | None:
    """The group of each item; None when no domain is named."""
    written = [pair.before.answer.group for pair in pairs]
    if domain and any(written):
        raise UserError("--domain: the files say the group of each item; leave --domain out")
    if any(written):
        without = written.count("")
        if without:
            raise UserError(f"{without:,} items have no group, others have; allowed: all or none")
        return written
    if not domain:
        return None
    names = [(pair.before.answer.task, pair.before.answer.category) for pair in pairs]
    known = sorted({name for both in names for name in both if name})
    for pattern in domain:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UserError(
                f"--domain {pattern}: no such task or category; "
                f"{did_you_mean(pattern, known)}present: {', '.join(known):.500}"
            )
    return [
        "domain" if any(fnmatchcase(n, p) for n in both for p in domain) else "general"
        for both in names
    ]


def _scored(pairs: Sequence[Pair], groups: list[str] | None) -> tuple[Scored, Scored]:
    answers = [pair.before.answer for pair in pairs]
    before = Scored(
        ids=np.array([pair.before.name for pair in pairs], dtype=str),
        groups=np.array(groups or [WHOLE] * len(pairs), dtype=str),
        categories=np.array([answer.category for answer in answers], dtype=str),
        clusters=np.array(
            # An item without a cluster is alone, with others that ask the same.
            [answer.cluster or f"\0{answer.task}\0{answer.content}" for answer in answers],
            dtype=str,
        ),
        scores=np.array([pair.before.score for pair in pairs], dtype=float),
    )
    return before, replace(before, scores=np.array([pair.after.score for pair in pairs]))


@dataclass(frozen=True)
class _Rows:
    """Makes rows of the figures."""

    before: Scored
    after: Scored
    significance: float

    def row(self, name: str, group: str, change: PairedChange) -> GateRow:
        """The row of a category, or of a group where `name` is its name."""
        whole = name == group
        chosen = self.before.groups == group
        if not whole:
            chosen &= self.before.categories == name
        return GateRow(
            name=name,
            group=group,
            whole=whole,
            before=_six_digits(self.before.scores[chosen].mean()),
            after=_six_digits(self.after.scores[chosen].mean()),
            difference=_six_digits(change.difference),
            interval=(_six_digits(change.interval[0]), _six_digits(change.interval[1])),
            n=change.n,
            clusters=change.clusters,
            lost=change.lost,
            gained=change.gained,
            better_p=_six_digits(change.better_p),
            worse_p=_six_digits(change.worse_p),
            margin=None,
            noninferiority_p=None,
            worse_p_adjusted=None,
            items_needed=None,
        )

    def tested(self, name: str, group: str, test: MarginTest) -> GateRow:
        """A row with a margin."""
        return self.row(name, group, test.change).model_copy(
            update={
                "margin": test.margin,
                "noninferiority_p": _six_digits(test.noninferiority_p),
                "worse_p_adjusted": _six_digits(test.worse_p_adjusted),
                "items_needed": test.items_needed,
            }
        )


def _six_digits(number: float) -> float:
    """Six significant digits: more would only record the order of additions."""
    return float(f"{number:.6g}") + 0.0  # turns -0.0 into 0.0


if __name__ == "__main__":
    sys.stdout.write(schema_text(GateFigures, "lmadapt gate --json"))
