"""One exam for every model: the questions, tokenised once, and what a model answers."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lmadapt.core.errors import UserError
from lmadapt.evaluation.variants import Examinee
from lmadapt.models.generation import answer_in_batches
from lmadapt.models.log_likelihoods import (
    Question,
    choose,
    encode_document,
    encode_item,
    score,
    texts_within,
)
from lmadapt.sources.answer_checks import score_answer

PREDICTION = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("category", pa.string()),
        ("cluster", pa.string()),
        ("model", pa.string()),  # base | pretrained | adapted
        (
            "log_likelihoods",
            pa.list_(pa.float64()),
        ),  # nats, one a choice; empty where the model answers freely
        ("response", pa.string()),  # the choice it prefers, or what it said
        (
            "score",
            pa.float64(),
        ),  # from 0 to 1; null for pairs of the fairness probe, where no choice is right
    ]
)
ABILITIES = ("domain", "general")  # groups of items that have a score and enter the verdict

Row = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exam:
    """Rows of the tables ITEM and HELDOUT, and their tokens."""

    items: list[Row]
    questions: list[Question | None]  # one an item; None where the model answers freely
    documents: list[Row]  # held-out text
    windows: list[list[Question]]  # those of each document

    def of(self, chosen: Callable[[Row], bool], *, text: bool = False) -> "Exam":
        """The items that `chosen` wants; the documents only with `text`."""
        pairs = [pair for pair in zip(self.items, self.questions, strict=True) if chosen(pair[0])]
        part = replace(
            self, items=[item for item, _ in pairs], questions=[question for _, question in pairs]
        )
        return part if text else replace(part, documents=[], windows=[])

    def encoded_by(self, tokenizer: Any) -> "Exam":
        """The same items and documents for a model with another tokenizer or chat template."""
        return _encode(self.items, self.documents, tokenizer)

    @property
    def clusters(self) -> np.ndarray:
        """The cluster of each item; an item without one is its own."""
        return np.array([item["cluster"] or f"\0{item['id']}" for item in self.items], dtype=str)


@dataclass(frozen=True)
class Answers:
    """What one model answered, in the order of the exam."""

    log_likelihoods: list[list[float]]  # nats; empty where the model answered freely
    responses: list[str]
    scores: np.ndarray  # from 0 to 1; NaN for pairs of the fairness probe
    nats: np.ndarray  # negative log-likelihood of each document

    def of(self, places: Sequence[int]) -> "Answers":
        """Those to the items at `places` of the exam, and to no document."""
        return Answers(
            log_likelihoods=[self.log_likelihoods[place] for place in places],
            responses=[self.responses[place] for place in places],
            scores=self.scores[list(places)],
            nats=np.zeros(0),
        )


def set_exam(
    items: Iterable[Row], heldout: Iterable[Row], tokenizer: Any, *, heldout_tokens: int, seed: int
) -> Exam:
    """Tokenise items, sorted by id, and up to `heldout_tokens` tokens of held-out text of each group.

    Raises UserError when an item's id occurs twice, it has neither choices nor a check, its answer is none of its
    choices, or its check cannot be applied.
    """
    ordered = sorted(items, key=lambda item: str(item["id"]))
    for before, after in pairwise(ordered):
        if before["id"] == after["id"]:
            raise UserError(
                f"item {before['id']!r} occurs twice among the evaluation items; ids must be unique"
            )
    for item in ordered:
        _require_key(item)
    texts = list(heldout)
    chosen = list(texts_within(texts, tokenizer, heldout_tokens, seed))
    for group in sorted(
        {text["group"] for text in texts} - {document["group"] for document, _ in chosen}
    ):
        log.warning(
            "no %s text is measured: every held-out document has over %d tokens",
            group,
            heldout_tokens,
        )
    return _encode(ordered, [document for document, _ in chosen], tokenizer)


def _encode(items: list[Row], documents: list[Row], tokenizer: Any) -> Exam:
    questions = [
        encode_item(tokenizer, i["prompt"], i["choices"]) if i["choices"] else None for i in items
    ]
    return Exam(
        items,
        questions,
        documents,
        [encode_document(tokenizer, text["text"]) for text in documents],
    )


def sit_exam(
    examinee: Examinee,
    tokenizer: Any,
    exam: Exam,
    *,
    name: str,
    batch_tokens: int,
    max_new_tokens: int,
) -> Answers:
    """Everything the examinee answers; progress is shown under `name`."""
    chosen, said = (
        [i for i, q in enumerate(exam.questions) if q],
        [i for i, q in enumerate(exam.questions) if not q],
    )
    flat = [window for windows in exam.windows for window in windows]
    owners = np.repeat(np.arange(len(exam.windows)), [len(windows) for windows in exam.windows])
    ask = partial(score, examinee.model, batch_tokens=batch_tokens, recall=examinee.cache.recall)
    with _progress(f"{name}: multiple choice", len(chosen)) as done:
        likelihoods = dict(
            zip(chosen, ask([q for q in exam.questions if q], on_batch=done), strict=True)
        )
    with _progress(f"{name}: held-out text", len(flat)) as done:
        text = [values[0] for values in ask(flat, on_batch=done)]
    with _progress(f"{name}: free answers", len(said)) as done:
        conversations = [
            [{"role": "user", "content": exam.items[index]["prompt"]}] for index in said
        ]
        spoken = answer_in_batches(
            examinee.model,
            tokenizer,
            conversations,
            max_new_tokens=max_new_tokens,
            recall=examinee.cache.recall,
            on_batch=done,
        )
    responses = dict(zip(said, spoken, strict=True)) | {
        index: exam.items[index]["choices"][choose(values, exam.items[index]["choices"])]
        for index, values in likelihoods.items()
    }
    order = range(len(exam.items))
    return Answers(
        log_likelihoods=[likelihoods.get(index, []) for index in order],
        responses=[responses[index] for index in order],
        scores=np.array([_score(exam.items[index], responses[index]) for index in order], float),
        nats=-np.bincount(owners, weights=text, minlength=len(exam.windows))
        if flat
        else np.zeros(0),
    )


def prediction_rows(exam: Exam, model: str, answers: Answers) -> Iterator[Row]:
    """Rows of the table PREDICTION, in the order of the exam."""
    columns = (exam.items, answers.log_likelihoods, answers.responses, answers.scores)
    for item, log_likelihoods, response, points in zip(*columns, strict=True):
        row = {key: item[key] for key in ("id", "group", "category", "cluster")}
        found = {"log_likelihoods": log_likelihoods, "response": response}
        yield (
            row | {"model": model} | found | {"score": None if np.isnan(points) else float(points)}
        )


def _require_key(item: Row) -> None:
    count, answer = len(item["choices"]), item["answer"]
    if item["group"] == "fairness":
        if count != 2:
            raise UserError(
                f"item {item['id']!r}: a pair of the fairness probe has two choices, not {count}"
            )
    elif count:
        if answer is None or not 0 <= answer < count:
            raise UserError(
                f"item {item['id']!r}: answer {answer} is not among its {count} choices (0-based)"
            )
    elif item["check"]:
        score_answer("", item["check"])
    else:
        raise UserError(
            f"item {item['id']!r} has neither choices nor a check: nothing could be right"
        )


def _score(item: Row, response: str) -> float:
    if item["group"] == "fairness":
        return float("nan")
    if item["choices"]:
        return float(response == item["choices"][item["answer"]])
    return score_answer(response, item["check"])


@contextmanager
def _progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=total == 0) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)
