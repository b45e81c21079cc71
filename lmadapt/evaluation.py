"""One exam for every model: the questions, tokenised once, and what a model answers."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lmadapt.behaviour import ask, passes
from lmadapt.errors import UserError
from lmadapt.scoring import Question, choose, encode_document, encode_item, require_known_head, score

PREDICTION = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("category", pa.string()),
        ("cluster", pa.string()),
        ("model", pa.string()),  # base | pretrained | adapted
        ("log_likelihoods", pa.list_(pa.float64())),  # nats, one a choice; empty for behaviour checks
        ("prediction", pa.int32()),  # index into the choices; null for behaviour checks
        ("correct", pa.bool_()),  # null for behaviour checks
        ("answer", pa.string()),  # what the model said to a behaviour check; null otherwise
        ("passed", pa.bool_()),  # null for multiple choice
    ]
)

Row = dict[str, Any]
SAMPLE_TOKENS = 32  # on which the scorer is compared with the model's own logits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exam:
    """Rows of the tables ITEM and HELDOUT, and their tokens."""

    items: list[Row]  # multiple choice, sorted by id
    questions: list[Question]  # one an item
    checks: list[Row]  # behaviour, sorted by id
    documents: list[Row]  # held-out text
    windows: list[list[Question]]  # those of each document


@dataclass(frozen=True)
class Answers:
    """What one model answered, in the order of the exam."""

    log_likelihoods: list[list[float]]  # nats
    predictions: list[int]
    correct: np.ndarray  # 1.0 or 0.0
    texts: list[str]
    passed: list[bool]
    nats: np.ndarray  # negative log-likelihood of each document


def set_exam(items: Iterable[Row], heldout: Iterable[Row], tokenizer: Any, *, heldout_tokens: int, seed: int) -> Exam:
    """Tokenise items and up to `heldout_tokens` tokens of held-out text of each group.

    Raises UserError when an item's id occurs twice or its answer is none of its choices.
    """
    ordered = sorted(items, key=lambda item: str(item["id"]))
    for before, after in pairwise(ordered):
        if before["id"] == after["id"]:
            raise UserError(f"item {before['id']!r} occurs twice among the evaluation items; ids must be unique")
    multiple_choice = [item for item in ordered if item["group"] != "behaviour"]
    for item in multiple_choice:
        if item["answer"] is None or not 0 <= item["answer"] < len(item["choices"]):
            count = len(item["choices"])
            raise UserError(f"item {item['id']!r}: answer {item['answer']} is not among its {count} choices (0-based)")
    texts = list(heldout)
    chosen = list(_within(texts, tokenizer, heldout_tokens, seed))
    for group in sorted({text["group"] for text in texts} - {document["group"] for document, _ in chosen}):
        log.warning("no %s text is measured: every held-out document has over %d tokens", group, heldout_tokens)
    return Exam(
        items=multiple_choice,
        questions=[encode_item(tokenizer, item["prompt"], item["choices"]) for item in multiple_choice],
        checks=[item for item in ordered if item["group"] == "behaviour"],
        documents=[document for document, _ in chosen],
        windows=[windows for _, windows in chosen],
    )


def sit_exam(model: Any, tokenizer: Any, exam: Exam, *, name: str, batch_tokens: int, max_new_tokens: int) -> Answers:
    """Everything `model` answers; progress is shown under `name`."""
    if exam.questions:
        require_known_head(model, exam.questions[0].context[:SAMPLE_TOKENS])
    flat = [window for windows in exam.windows for window in windows]
    owners = np.repeat(np.arange(len(exam.windows)), [len(windows) for windows in exam.windows])
    with _progress(f"{name}: multiple choice", len(exam.questions)) as done:
        likelihoods = score(model, exam.questions, batch_tokens=batch_tokens, on_batch=done)
    with _progress(f"{name}: held-out text", len(flat)) as done:
        text = [values[0] for values in score(model, flat, batch_tokens=batch_tokens, on_batch=done)]
    with _progress(f"{name}: behaviour checks", len(exam.checks)) as done:
        prompts = [check["prompt"] for check in exam.checks]
        said = ask(model, tokenizer, prompts, max_new_tokens=max_new_tokens, on_batch=done)
    picked = [choose(values, item["choices"]) for values, item in zip(likelihoods, exam.items, strict=True)]
    right = [choice == item["answer"] for choice, item in zip(picked, exam.items, strict=True)]
    return Answers(
        log_likelihoods=likelihoods,
        predictions=picked,
        correct=np.array(right, float),
        texts=said,
        passed=[passes(answer, check["check"]) for answer, check in zip(said, exam.checks, strict=True)],
        nats=-np.bincount(owners, weights=text, minlength=len(exam.windows)) if flat else np.zeros(0),
    )


def prediction_rows(exam: Exam, model: str, answers: Answers) -> Iterator[Row]:
    """Rows of the table PREDICTION: multiple choice first, then behaviour checks."""
    for index, item in enumerate(exam.items):
        yield _row(item, model) | {
            "log_likelihoods": answers.log_likelihoods[index],
            "prediction": answers.predictions[index],
            "correct": bool(answers.correct[index]),
        }
    for index, check in enumerate(exam.checks):
        yield _row(check, model) | {"answer": answers.texts[index], "passed": answers.passed[index]}


def _row(item: Row, model: str) -> Row:
    empty: Row = {"log_likelihoods": [], "prediction": None, "correct": None, "answer": None, "passed": None}
    return {key: item[key] for key in ("id", "group", "category", "cluster")} | {"model": model} | empty


def _within(
    documents: Iterable[Row], tokenizer: Any, heldout_tokens: int, seed: int
) -> Iterator[tuple[Row, list[Question]]]:
    """Documents in an order drawn with `seed`, each that still fits into its group's share of tokens."""
    ordered: Sequence[Row] = sorted(documents, key=lambda document: str(document["id"]))
    left: dict[str, int] = {}
    for index in np.random.default_rng(seed).permutation(len(ordered)):
        document = ordered[index]
        windows = encode_document(tokenizer, document["text"])
        tokens = sum(len(window.continuations[0]) for window in windows)
        if 0 < tokens <= left.setdefault(document["group"], heldout_tokens):
            left[document["group"]] -= tokens
            yield document, windows


@contextmanager
def _progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)
