"""The dial: how strongly the adapter is applied, chosen on one half of the items and judged on the other."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lmadapt.evaluation.exam import ABILITIES, Answers, Exam, Row
from lmadapt.evaluation.figures import change_figures, scored
from lmadapt.verdict.decision import Comparison, compare

SCALES = (
    0.25,
    0.5,
    0.75,
    1.0,
)  # WiSE-FT (Wortsman et al. 2022) interpolates weights; for LoRA that is its scale


def split_halves(exam: Exam, *, seed: int) -> tuple[Exam, Exam]:
    """The development half (scored items only) and the sealed half (the other items, and all that is not scored).

    Items of one cluster stay together; every category is split evenly as far as its clusters allow.
    """
    development: set[str] = set()
    draw = np.random.default_rng(seed)
    clusters = dict(zip([item["id"] for item in exam.items], exam.clusters.tolist(), strict=True))
    seen: set[str] = set()
    for category in sorted({item["category"] for item in exam.items if item["group"] in ABILITIES}):
        names = sorted(
            {clusters[item["id"]] for item in exam.items if item["category"] == category} - seen
        )
        seen.update(names)
        development.update(draw.permutation(names)[: len(names) // 2].tolist())

    def is_development(item: Row) -> bool:
        return item["group"] in ABILITIES and clusters[item["id"]] in development

    return exam.of(is_development), exam.of(lambda item: not is_development(item), text=True)


def turn_dial(
    development: Exam,
    base: Answers,
    answer: Callable[[float], Answers],
    settings: Mapping[str, float],
) -> dict[str, Any]:
    """Compare the base with the adapter at each of SCALES, and choose one.

    Chosen is the largest gain in the domain among the scales at which general ability is shown to be non-inferior
    as a whole; where there is none, the scale that keeps most of it. `settings`: margins and level, as in `compare`.
    """
    before = scored(development, base)
    compared = {
        scale: compare(before, scored(development, answer(scale)), **settings) for scale in SCALES
    }
    kept = {
        scale: found
        for scale, found in compared.items()
        if found.general.acceptable(settings["significance"])
    }
    if kept:
        chosen = max(kept, key=lambda scale: kept[scale].domain.difference)
    else:
        chosen = max(compared, key=lambda scale: compared[scale].general.change.difference)
    return {
        "rows": [_row(scale, found) for scale, found in compared.items()],
        "chosen": chosen,
        "development_items": len(development.items),
    }


def _row(scale: float, found: Comparison) -> dict[str, Any]:
    return {
        "alpha_scale": scale,
        "domain": change_figures(found.domain),
        "general": change_figures(found.general.change),
    }
