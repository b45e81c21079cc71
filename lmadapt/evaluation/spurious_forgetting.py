"""Spurious forgetting: lost items that are right again when they are asked in another form.

Such an item was not forgotten; the model only no longer answers it when asked plainly (Zheng et
al. 2025, "Spurious Forgetting").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import Exam, Item
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.variants import CachedModel
from lmadapt.models.chat import Message
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import Question, choose, encode_bare, encode_item
from lmadapt.verdict.figures import Regained, SpuriousForgetting
from lmadapt.verdict.statistics import Array, chance_adjusted, wilson_interval

MAX_ITEMS = 400  # that are asked again
SHOTS = 4  # solved examples before a question


@dataclass(frozen=True)
class AskedAgain:
    """What came of asking again."""

    figures: SpuriousForgetting | None  # None when nothing was lost
    regained: dict[str, list[str]]  # by id of an item: the forms in which it is right


def ask_lost_items_again(
    adapted: CachedModel,
    tokenizer: Any,
    exam: Exam,
    *,
    before: Answers,
    after: Answers,
    settings: EvaluationSettings,
) -> AskedAgain:
    """Ask the adapted model again for the multiple-choice items that it lost, in two forms.

    `few_shot`: after solved examples of the same category, which show the task but not the
    knowledge. `bare`: as plain text without a chat template, the form of a base model's training.
    The figure `spurious` is the share that the better form regains beyond guessing,
    (share - chance) / (1 - chance). Where more than 400 items were lost, the seed draws 400.
    """
    lost = [
        place
        for place, question in enumerate(exam.questions)
        if question and before.scores[place] == 1 and after.scores[place] == 0
    ]
    if not lost:
        return AskedAgain(None, {})
    asked = sorted(np.random.default_rng(settings.seed).permutation(lost)[:MAX_ITEMS].tolist())
    items = [exam.items[place] for place in asked]
    right = {
        form: _answers_right(adapted, questions, items, settings.batch_tokens)
        for form, questions in _forms(tokenizer, items, exam.items).items()
    }
    chance = float(np.mean([1 / len(item["choices"]) for item in items]))
    best = max(float(found.mean()) for found in right.values())
    quantile = float(ndtri(1 - settings.significance))
    figures = SpuriousForgetting(
        lost=len(lost),
        asked=len(items),
        chance=chance,
        spurious=max(0.0, chance_adjusted(best, chance)),
        few_shot=_regained(right["few_shot"], quantile),
        bare=_regained(right["bare"], quantile),
    )
    regained = {
        item["id"]: [form for form, found in right.items() if found[number]]
        for number, item in enumerate(items)
    }
    return AskedAgain(figures, regained)


def _forms(
    tokenizer: Any, items: Sequence[Item], all_items: Sequence[Item]
) -> dict[str, list[Question]]:
    few_shot = [
        encode_item(tokenizer, item["prompt"], item["choices"], _shots(item, all_items))
        for item in items
    ]
    bare = [encode_bare(tokenizer, item["prompt"], item["choices"]) for item in items]
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


def _regained(right: Array, quantile: float) -> Regained:
    count, regained = len(right), int(right.sum())
    return Regained(
        regained=regained,
        share=regained / count,
        interval=wilson_interval(regained, count, quantile),
    )
