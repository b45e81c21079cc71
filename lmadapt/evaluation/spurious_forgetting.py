"""Lost items asked again in other forms: what comes back was not forgotten, only no longer said when asked plainly."""

from typing import Any

import numpy as np

from lmadapt.evaluation.exam import Answers, Exam, Row
from lmadapt.evaluation.variants import Examinee
from lmadapt.models.log_likelihoods import choose, encode_bare, encode_item, score
from lmadapt.verdict.statistics import chance_adjusted, wilson_interval

MAX_ITEMS = 400  # asked again
SHOTS = 4  # solved examples before a question


def triage(
    adapted: Examinee,
    tokenizer: Any,
    exam: Exam,
    before: Answers,
    after: Answers,
    *,
    batch_tokens: int,
    quantile: float,
    seed: int,
) -> tuple[dict[str, Any] | None, dict[str, list[str]]]:
    """Ask the adapted model again for the multiple-choice items it lost: figures, and by item what brought it back.

    Twice: after solved examples of the same category (`few_shot`: they restore the task, not the knowledge; Zheng et
    al. 2025, "Spurious Forgetting"), and as plain text without a chat template (`bare`: a base model's own form).
    `spurious` is the share that the better form brought back beyond guessing, (share - chance) / (1 - chance).
    `quantile`: normal, of the intervals; `seed` draws the items where over 400 were lost.
    """
    lost = [
        i
        for i, q in enumerate(exam.questions)
        if q and before.scores[i] == 1 and after.scores[i] == 0
    ]
    if not lost:
        return None, {}
    asked = sorted(np.random.default_rng(seed).permutation(lost)[:MAX_ITEMS].tolist())
    items = [exam.items[index] for index in asked]
    forms = {
        "few_shot": [
            encode_item(tokenizer, i["prompt"], i["choices"], _shots(i, exam.items)) for i in items
        ],
        "bare": [encode_bare(tokenizer, item["prompt"], item["choices"]) for item in items],
    }
    right = {
        form: np.array(
            [
                choose(values, item["choices"]) == item["answer"]
                for values, item in zip(
                    score(
                        adapted.model,
                        questions,
                        batch_tokens=batch_tokens,
                        recall=adapted.cache.recall,
                    ),
                    items,
                    strict=True,
                )
            ]
        )
        for form, questions in forms.items()
    }
    chance = float(np.mean([1 / len(item["choices"]) for item in items]))
    best = max(float(found.mean()) for found in right.values())
    figures = {
        "lost": len(lost),
        "asked": len(items),
        "chance": chance,
        "spurious": max(0.0, chance_adjusted(best, chance)),
    } | {form: _share(found, quantile) for form, found in right.items()}
    return figures, {
        item["id"]: [form for form in forms if right[form][n]] for n, item in enumerate(items)
    }


def _shots(item: Row, items: list[Row]) -> list[dict[str, str]]:
    """The first solved items of its category that are about something else, as a conversation."""
    others = [
        other
        for other in items
        if other["category"] == item["category"]
        and other["answer"] is not None
        and other["id"] != item["id"]
        and (not item["cluster"] or other["cluster"] != item["cluster"])
    ]
    return [
        message
        for other in others[:SHOTS]
        for message in (
            {"role": "user", "content": other["prompt"]},
            {"role": "assistant", "content": other["choices"][other["answer"]]},
        )
    ]


def _share(right: np.ndarray, quantile: float) -> dict[str, Any]:
    n, k = len(right), int(right.sum())
    return {"regained": k, "share": k / n, "interval": wilson_interval(k, n, quantile)}
