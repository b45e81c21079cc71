"""Free-form items beyond one score: what classifiers and generators are usually measured by."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from lmadapt.evaluation.exam import ABILITIES, Answers, Exam
from lmadapt.sources.answer_checks import named_label, score_answer

REFERENCE_KINDS = ("rouge_l", "chrf", "bleu")
NONE = "(none of them)"


def free_form_figures(exam: Exam, answers: Mapping[str, Answers]) -> dict[str, Any]:
    """`classification` and `generation`, each by category and model, from the checks of kind label and reference."""
    checks: dict[str, dict[str, list[tuple[int, dict[str, Any]]]]] = {
        "classification": defaultdict(list),
        "generation": defaultdict(list),
    }
    for index, item in enumerate(exam.items):
        if item["check"] and item["group"] in ABILITIES:
            check = json.loads(item["check"])
            table = {"label": "classification"} | dict.fromkeys(REFERENCE_KINDS, "generation")
            if check["kind"] in table:
                checks[table[check["kind"]]][item["category"]].append((index, check))
    measure = {"classification": _classification, "generation": _generation}
    return {
        table: {
            category: {
                name: measure[table]([(model.responses[index], check) for index, check in rows])
                for name, model in answers.items()
            }
            for category, rows in sorted(categories.items())
        }
        for table, categories in checks.items()
    }


def _classification(rows: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Per label precision, recall and F1, their macro average, and the confusion matrix (rows: the truth)."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels = sorted({label for _, check in rows for label in check["labels"]})
    truth = [check["value"] for _, check in rows]
    named = [named_label(said, check["labels"]) or NONE for said, check in rows]
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, named, labels=labels, zero_division=0.0
    )
    return {
        "labels": labels,
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "macro_f1": float(f1.mean()),
        "confusion": confusion_matrix(truth, named, labels=[*labels, NONE])[:-1].tolist(),
    }


def _generation(rows: list[tuple[str, dict[str, Any]]]) -> dict[str, float]:
    """Mean ROUGE-L, and BLEU and chrF of the whole (sacreBLEU's corpus scores / 100), on the first references."""
    from sacrebleu import corpus_bleu, corpus_chrf

    said = [answer for answer, _ in rows]
    references = [[str(check["references"][0]) for _, check in rows]]
    rouge = [
        score_answer(answer, json.dumps(check | {"kind": "rouge_l"})) for answer, check in rows
    ]
    return {
        "rouge_l": sum(rouge) / len(rouge),
        "bleu": float(corpus_bleu(said, references).score) / 100,
        "chrf": float(corpus_chrf(said, references).score) / 100,
    }
