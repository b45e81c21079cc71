"""Figures of classifiers and generators, whose items are answered in the model's own words."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.exam import ABILITIES, Exam
from lmadapt.sources.answer_checks import named_label, score_answer
from lmadapt.sources.answer_texts import bleu_settings, space_characters
from lmadapt.verdict.item_figures import Classification, Generation

CLASSIFICATION_KINDS = {"label"}  # of a check
GENERATION_KINDS = {"rouge_l", "chrf", "bleu"}
NO_LABEL = "(none of them)"


class CheckedItem(NamedTuple):
    """An item answered freely: its place in the exam, and its check as JSON is read."""

    place: int
    check: dict[str, Any]


class CheckedAnswer(NamedTuple):
    """What a model said, and the check that scores it."""

    said: str
    check: dict[str, Any]


def classification_figures(
    exam: Exam, answers: Mapping[str, Answers]
) -> dict[str, dict[str, Classification]]:
    """By category, then model: how well the labels are named, from checks of kind label."""
    return {
        category: {name: _classification(_said(model, items)) for name, model in answers.items()}
        for category, items in _items_by_category(exam, CLASSIFICATION_KINDS).items()
    }


def generation_figures(
    exam: Exam, answers: Mapping[str, Answers]
) -> dict[str, dict[str, Generation]]:
    """By category, then model: how similar answers are to their references."""
    return {
        category: {name: _generation(_said(model, items)) for name, model in answers.items()}
        for category, items in _items_by_category(exam, GENERATION_KINDS).items()
    }


def _items_by_category(exam: Exam, kinds: set[str]) -> dict[str, list[CheckedItem]]:
    """The items of domain and general ability whose check is of one of the kinds, sorted."""
    found: dict[str, list[CheckedItem]] = defaultdict(list)
    for place, item in enumerate(exam.items):
        if item["check"] and item["group"] in ABILITIES:
            check = json.loads(item["check"])
            if check["kind"] in kinds:
                found[item["category"]].append(CheckedItem(place, check))
    return dict(sorted(found.items()))


def _said(model: Answers, items: list[CheckedItem]) -> list[CheckedAnswer]:
    return [CheckedAnswer(model.responses[item.place], item.check) for item in items]


def _classification(answers: list[CheckedAnswer]) -> Classification:
    """Precision, recall and F1 of each label, their macro average, and the confusion matrix."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels = sorted(set().union(*(answer.check["labels"] for answer in answers)))
    truth = [answer.check["value"] for answer in answers]
    named = [named_label(said, check["labels"]) or NO_LABEL for said, check in answers]
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, named, labels=labels, zero_division=0.0
    )
    return Classification(
        labels=labels,
        precision=precision.tolist(),
        recall=recall.tolist(),
        f1=f1.tolist(),
        macro_f1=float(f1.mean()),
        # The last row would be answers whose true label is none of them: there are none.
        confusion=confusion_matrix(truth, named, labels=[*labels, NO_LABEL])[:-1].tolist(),
    )


def _generation(answers: list[CheckedAnswer]) -> Generation:
    """Mean ROUGE-L over all references; corpus BLEU and chrF on the first, divided by 100.

    BLEU and chrF are sacreBLEU's.
    """
    from sacrebleu import corpus_bleu, corpus_chrf

    said = [answer.said for answer in answers]
    references = [[str(answer.check["references"][0]) for answer in answers]]
    tokenizer, spaceless = bleu_settings(references[0])
    spaced = (said, references)
    if spaceless:
        spaced = ([*map(space_characters, said)], [[*map(space_characters, references[0])]])
    rouge = [
        score_answer(answer.said, json.dumps(answer.check | {"kind": "rouge_l"}))
        for answer in answers
    ]
    return Generation(
        rouge_l=sum(rouge) / len(rouge),
        bleu=float(corpus_bleu(*spaced, tokenize=tokenizer).score) / 100,
        chrf=float(corpus_chrf(said, references).score) / 100,
    )
