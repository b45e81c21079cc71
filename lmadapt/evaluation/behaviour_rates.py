"""How often the behaviour checks of each category pass, before and after."""

import numpy as np

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import Exam
from lmadapt.verdict.item_figures import BehaviourRate
from lmadapt.verdict.statistics import Interval, paired_change


def behaviour_rates(
    exam: Exam, before: Answers, after: Answers, significance: float
) -> dict[str, BehaviourRate]:
    """By category, sorted: the share of checks that each model passes, and the paired change.

    A check passes when its score is 1. The interval is that of `paired_change`, with confidence
    1 - 2 * `significance`.
    """
    checks = [place for place, item in enumerate(exam.items) if item["group"] == "behaviour"]
    figures = {}
    for category in sorted({exam.items[place]["category"] for place in checks}):
        places = [place for place in checks if exam.items[place]["category"] == category]
        passed, passes = ((one.scores[places] == 1).astype(float) for one in (before, after))
        clusters = exam.clusters[places]
        interval: Interval | None = None
        if len(np.unique(clusters)) > 1:
            interval = paired_change(passed, passes, clusters, significance).interval
        figures[category] = BehaviourRate(
            n=len(places),
            before=float(passed.mean()),
            after=float(passes.mean()),
            lost=int(np.sum(passes < passed)),
            gained=int(np.sum(passes > passed)),
            difference=float(passes.mean() - passed.mean()),
            interval=interval,
        )
    return figures
