"""Attribution: which step of training, quantisation or merging lost accuracy.

Every model of the chain answers the multiple-choice items in the precision in which it exists; the
changes from each to the next are the steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from lmadapt.evaluation.answers import Answers, answer_exam
from lmadapt.evaluation.changes import change_figures, items_by_category, scored
from lmadapt.evaluation.comparison import Measured
from lmadapt.evaluation.exam import ABILITIES, Exam, Item
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.variants import ModelVariant, open_variant
from lmadapt.verdict.decision import Scored
from lmadapt.verdict.figures import Attribution, CategoryStepChanges, Change, Step, StepChange
from lmadapt.verdict.statistics import Array, paired_change

STEPS: Mapping[tuple[str, str], Step] = {
    ("base", "pretrained"): "pre-training",
    ("pretrained", "quantised"): "quantisation",
    ("quantised", "adapted"): "fine-tuning",
    ("pretrained", "adapted"): "fine-tuning",
    ("pretrained", "unmerged"): "fine-tuning",
    ("adapted", "merged"): "merging",
    ("unmerged", "adapted"): "merging",
    ("unmerged", "merged"): "merging",
    ("merged", "adapted"): "quantisation",
}


@dataclass(frozen=True)
class Chain:
    """Multiple-choice items, and what each model of the chain answered."""

    exam: Exam
    answers: dict[str, Answers]  # by model; each is made from the one before it


def answer_chain(measured: Measured, tokenizer: Any, settings: EvaluationSettings) -> Chain:
    """Let every model of the chain answer the multiple-choice items of domain and general ability.

    A model that was measured in the same precision is not asked again.
    """
    names = {variant: name for name, variant in measured.variants.items()}
    items = measured.exam.items
    places = [place for place, item in enumerate(items) if _is_multiple_choice(item)]
    exam = measured.exam.of_items(_is_multiple_choice)
    answers = {}
    for name, variant in _chain(measured.variants).items():
        if variant in names:
            answers[name] = measured.answers[names[variant]].of_items(places)
            continue
        with open_variant(variant, settings.answer_file) as model:
            answers[name] = answer_exam(
                model,
                tokenizer,
                exam,
                name=f"{name}, {variant.precision}",
                batch_tokens=settings.batch_tokens,
                max_new_tokens=1,
            )
    return Chain(exam, answers)


def attribute(chain: Chain, significance: float) -> Attribution:
    """What each step of the chain changed; intervals have confidence 1 - 2 * `significance`."""
    found = {name: scored(chain.exam, answers) for name, answers in chain.answers.items()}
    steps = [
        _step(before, after, found[before], found[after], significance)
        for before, after in pairwise(found)
    ]
    return Attribution(links=list(found), steps=steps)


def lost_in(chain: Chain) -> dict[str, Step]:
    """By id of an item that the adapted model gets wrong: the last step at which it was lost.

    Items that no step lost are left out.
    """
    names = list(chain.answers)
    names = names[: names.index("adapted") + 1]
    scores = np.stack([chain.answers[name].scores for name in names])
    found: dict[str, Step] = {}
    for place, item in enumerate(chain.exam.items):
        falls = np.flatnonzero(np.diff(scores[:, place]) < 0)
        if len(falls) and scores[-1, place] < 1:
            last = int(falls[-1])
            found[item["id"]] = STEPS[names[last], names[last + 1]]
    return found


def _is_multiple_choice(item: Item) -> bool:
    return item["group"] in ABILITIES and bool(item["choices"])


def _chain(variants: Mapping[str, ModelVariant]) -> dict[str, ModelVariant]:
    """The models in the order in which they are made, each in its own precision.

    "adapted" is the artifact that will be served. Where that is an adapter, "merged" comes after
    it: what would change if the merged model were served.
    """
    base, pretrained, adapted = (variants[name] for name in ("base", "pretrained", "adapted"))
    chain = {
        "base": replace(base, precision="bf16"),
        "pretrained": replace(pretrained, precision="bf16"),
    }
    merged = replace(adapted, precision="bf16", merged=True)
    if adapted.merged:
        chain["unmerged"] = replace(merged, merged=False)
        if adapted.precision == "nf4":
            chain["merged"] = merged
        return chain | {"adapted": adapted}
    if pretrained.precision == "nf4":
        chain["quantised"] = pretrained
    return chain | {"adapted": adapted, "merged": merged}


def _step(
    before: str, after: str, earlier: Scored, later: Scored, significance: float
) -> StepChange:
    def change(chosen: Array) -> Change:
        found = paired_change(
            earlier.scores[chosen], later.scores[chosen], earlier.clusters[chosen], significance
        )
        return change_figures(found)

    def by_category(group: str) -> dict[str, Change]:
        return {name: change(chosen) for name, chosen in items_by_category(earlier, group).items()}

    return StepChange(
        step=STEPS[before, after],
        before=before,
        after=after,
        domain=change(earlier.groups == "domain"),
        general=change(earlier.groups == "general"),
        categories=CategoryStepChanges(
            domain=by_category("domain"), general=by_category("general")
        ),
    )
