from typing import Any

import numpy as np

from lmadapt.verdict.decision import Scored, Verdict, compare, judge
from tests.verdict.exam import BASE, BETTER, DOMAIN, changed

MARGINS: dict[str, Any] = {"margin": 0.02, "category_margin": 0.05}


def verdict(after: Scored, before: Scored = BASE, **judged: Any) -> Verdict:
    comparison = compare(before, after, **MARGINS, significance=0.05)
    return judge(comparison, [], significance=0.05, **judged)


def test_a_domain_category_that_fell_by_20_points_is_held_though_the_domain_is_better() -> None:
    found = verdict(changed(BETTER, BASE.categories == "d2", 0.33, to=0.0))
    assert found.outcome == "HOLD"
    assert found.reason.startswith("D2 (domain) became worse by")
    assert any(line.startswith("d2 (domain): -") for line in found.evidence)


def test_every_domain_category_is_among_the_evidence() -> None:
    lines = verdict(BETTER).evidence
    assert [line.split(":")[0] for line in lines[1:5]] == [f"{name} (domain)" for name in DOMAIN]


def test_the_chance_of_a_false_hold_is_shared_by_all_domain_categories() -> None:
    """One of 4 categories fell: its p-value is multiplied by 4, and by 4 for the questions."""
    after = changed(BETTER, BASE.categories == "d2", 0.33, to=0.0)
    comparison = compare(BASE, after, **MARGINS, significance=0.05)
    test = comparison.domain_categories["d2"]
    assert test.worse_p_adjusted == 16 * test.change.worse_p
    alone = np.isin(BASE.categories, ["d2"]) | (BASE.groups == "general")
    only = [
        Scored(*(values[alone] for values in list(vars(model).values())[:5]))
        for model in (BASE, after)
    ]
    single = compare(*only, **MARGINS, significance=0.05).domain_categories["d2"]
    assert single.worse_p_adjusted == 4 * test.change.worse_p
