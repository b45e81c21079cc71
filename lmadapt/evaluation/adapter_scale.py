"""The adapter's scale: chosen on one half of the items, judged on the other half."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lmadapt.evaluation.answers import answer_exam
from lmadapt.evaluation.changes import change_figures, compare_scores, scored
from lmadapt.evaluation.exam import ABILITIES, Exam, Item
from lmadapt.evaluation.exam_identity import item_sha256
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.variants import ModelVariant, open_variant
from lmadapt.verdict.decision import Comparison, Scored
from lmadapt.verdict.figures import AdapterScale, ScaleChange

# WiSE-FT (Wortsman et al. 2022) interpolates between the weights before and after fine-tuning; for
# LoRA the scale of the adapter does the same.
SCALES = (0.25, 0.5, 0.75, 1.0)


def choose_scale(
    exam: Exam,
    tokenizer: Any,
    variants: Mapping[str, ModelVariant],
    settings: EvaluationSettings,
) -> tuple[Exam, AdapterScale]:
    """Compare "reference" with "adapted" at each of SCALES on a development half of the items.

    Returns the other half, which is for the verdict, and the scale chosen on the other half.
    """
    development, sealed = split_halves(exam)

    def scores(variant: ModelVariant, name: str) -> Scored:
        with open_variant(variant, settings.answer_file) as model:
            answers = answer_exam(
                model,
                tokenizer,
                development,
                name=f"adapter scale, {name}",
                batch_tokens=settings.batch_tokens,
                max_new_tokens=settings.max_new_tokens,
            )
        return scored(development, answers)

    before = scores(variants["reference"], "reference")
    compared = {}
    for scale in SCALES:
        adapted = replace(variants["adapted"], alpha_scale=scale)
        after = scores(adapted, f"{scale:g}")
        compared[scale] = compare_scores(before, after, settings)
    figures = AdapterScale(
        rows=[_row(scale, comparison) for scale, comparison in compared.items()],
        chosen=best_scale(compared, settings.significance),
        development_items=len(development.items),
        sealed_items=sum(item["group"] in ABILITIES for item in sealed.items),
    )
    return sealed, figures


def best_scale(compared: dict[float, Comparison], significance: float) -> float:
    """The scale with the largest gain in the domain that is shown to keep general ability.

    "Shown" means non-inferior as a whole. Where no scale is, the scale with the smallest loss of
    general ability.
    """
    kept = {
        scale: comparison.domain.difference
        for scale, comparison in compared.items()
        if comparison.general.acceptable(significance)
    }
    if kept:
        return max(kept, key=kept.__getitem__)
    return max(compared, key=lambda scale: compared[scale].general.change.difference)


def split_halves(exam: Exam) -> tuple[Exam, Exam]:
    """The development half, and the other half with all documents and unscored items.

    Items of one cluster stay together; each category is split as evenly as its clusters allow. What
    the items ask decides the halves, and no seed: nobody can draw again until the halves please.
    """
    clusters = dict(zip([item["id"] for item in exam.items], exam.clusters.tolist(), strict=True))
    contents: dict[str, list[str]] = defaultdict(list)
    for item in exam.items:
        contents[clusters[item["id"]]].append(item_sha256(item))
    development: set[str] = set()
    seen: set[str] = set()
    for category in sorted({item["category"] for item in exam.items if item["group"] in ABILITIES}):
        own = {clusters[item["id"]] for item in exam.items if item["category"] == category}
        names = sorted(own - seen, key=lambda name: sorted(contents[name]))
        seen.update(names)
        development.update(names[: len(names) // 2])

    def is_development(item: Item) -> bool:
        return item["group"] in ABILITIES and clusters[item["id"]] in development

    half = exam.of_items(is_development)
    return half, exam.without(half)


def _row(scale: float, comparison: Comparison) -> ScaleChange:
    return ScaleChange(
        alpha_scale=scale,
        domain=change_figures(comparison.domain),
        general=change_figures(comparison.general.change),
    )
