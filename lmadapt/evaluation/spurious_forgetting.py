"""Spurious forgetting: lost items that are right again when they are asked in another form.

Such an item was not forgotten; the model only no longer answers it when asked plainly (Zheng et
al. 2025, "Spurious Forgetting"). Another form is harder or easier by itself, so the reference is
asked in the same form, and what comes back is judged against what the reference keeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import Exam, Item, conversation
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.variants import CachedModel
from lmadapt.models.chat import Message
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import Question, choose, encode_bare, encode_item
from lmadapt.verdict.figures import Regained, SpuriousForgetting
from lmadapt.verdict.ratio import paired_ratio
from lmadapt.verdict.statistics import (
    Array,
    Interval,
    paired_change,
    wilson_interval,
)

MAX_ITEMS = 400  # that are asked again
SHOTS = 4  # solved examples before a question

Right = Mapping[str, Array]  # by form: which of the items are right, (n,) bool


@dataclass(frozen=True)
class LostItems:
    """Multiple-choice items that the reference had right and the adapted model has wrong."""

    count: int
    asked: list[int]  # places in the exam of those that are asked again


@dataclass(frozen=True)
class AskedAgain:
    """What came of asking again."""

    figures: SpuriousForgetting | None  # None when nothing was lost
    regained: dict[str, list[str]]  # by id of an item: the forms in which it is right


def lost_items(exam: Exam, reference: Answers, adapted: Answers, seed: int) -> LostItems:
    """The lost multiple-choice items; where more than 400 were lost, `seed` draws 400."""
    lost = [
        place
        for place, question in enumerate(exam.questions)
        if question and reference.scores[place] == 1 and adapted.scores[place] == 0
    ]
    asked = np.random.default_rng(seed).permutation(lost)[:MAX_ITEMS].astype(int)
    return LostItems(len(lost), sorted(asked.tolist()))


def ask_again(
    model: CachedModel, tokenizer: Any, exam: Exam, lost: LostItems, batch_tokens: int
) -> dict[str, Array]:
    """By form: which of the lost items the model answers right, (n,) bool.

    `few_shot`: after solved examples of the same category, which show the task but not the
    knowledge. `bare`: as plain text without a chat template, the form of a base model's training.
    """
    if not lost.asked:
        return {}
    items = [exam.items[place] for place in lost.asked]
    return {
        form: _answers_right(model, questions, items, batch_tokens)
        for form, questions in _forms(tokenizer, items, exam.items).items()
    }


def compare_forms(
    exam: Exam, lost: LostItems, reference: Right, adapted: Right, settings: EvaluationSettings
) -> AskedAgain:
    """What the adapted model regains of the lost items, against what the reference keeps.

    `reference` and `adapted` are what `ask_again` gives for each. The figure `spurious` is the
    ratio of both beyond guessing, in the form with the higher ratio. A form counts where the
    reference is shown to know the items beyond guessing.
    """
    if not lost.asked:
        return AskedAgain(None, {})
    items = [exam.items[place] for place in lost.asked]
    clusters = exam.clusters[lost.asked]
    chances = np.array([1 / len(item["choices"]) for item in items])
    level = settings.significance
    ratios = [
        paired_ratio(adapted[form] - chances, reference[form] - chances, clusters, level)
        for form in adapted
    ]
    ratio, interval = max(
        (found for found in ratios if found is not None),
        key=lambda found: found[0],
        default=(None, None),
    )
    forms = {form: _regained(reference[form], adapted[form], clusters, level) for form in adapted}
    figures = SpuriousForgetting(
        lost=lost.count,
        asked=len(items),
        chance=float(chances.mean()),
        spurious=None if ratio is None else min(1.0, max(0.0, ratio)),
        spurious_interval=interval,
        few_shot=forms["few_shot"],
        bare=forms["bare"],
    )
    regained = {
        item["id"]: [form for form, found in adapted.items() if found[number]]
        for number, item in enumerate(items)
    }
    return AskedAgain(figures, regained)


def _forms(
    tokenizer: Any, items: Sequence[Item], all_items: Sequence[Item]
) -> dict[str, list[Question]]:
    few_shot, bare = [], []
    for item in items:
        *before, asked = conversation(tokenizer, item, _shots(item, all_items))
        few_shot.append(encode_item(tokenizer, asked["content"], item["choices"], before))
        plain = "\n\n".join(filter(None, (item.get("system"), item["prompt"])))
        bare.append(encode_bare(tokenizer, plain, item["choices"]))
    return {"few_shot": few_shot, "bare": bare}


def _answers_right(
    model: CachedModel, questions: list[Question], items: Sequence[Item], batch_tokens: int
) -> Array:
    """Which of the items the model answers right, (n,) bool."""
    recall = model.cache.recall
    likelihoods = score(model.load, questions, batch_tokens=batch_tokens, recall=recall)
    pairs = zip(likelihoods, items, strict=True)
    return np.array([choose(values, item["choices"]) == item["answer"] for values, item in pairs])


def _shots(item: Item, items: Sequence[Item]) -> list[Message]:
    """The first solved items of its category about other entities, as a conversation."""
    messages: list[Message] = []
    for other in items:
        answer = other["answer"]
        if answer is not None and _is_example_for(item, other) and len(messages) < 2 * SHOTS:
            messages += [
                {"role": "user", "content": other["prompt"]},
                {"role": "assistant", "content": other["choices"][answer]},
            ]
    return messages


def _is_example_for(item: Item, other: Item) -> bool:
    return (
        other["category"] == item["category"]
        and other["id"] != item["id"]
        and (not item["cluster"] or other["cluster"] != item["cluster"])
    )


def _regained(reference: Array, adapted: Array, clusters: Array, significance: float) -> Regained:
    count, regained, kept = len(adapted), int(adapted.sum()), int(reference.sum())
    interval: Interval | None = None
    if len(np.unique(clusters)) > 1:
        before, after = reference.astype(float), adapted.astype(float)
        interval = paired_change(before, after, clusters, significance).interval
    return Regained(
        regained=regained,
        share=regained / count,
        interval=wilson_interval(regained, count, float(ndtri(1 - significance))),
        kept=kept,
        kept_share=kept / count,
        difference=(regained - kept) / count,
        difference_interval=interval,
    )
