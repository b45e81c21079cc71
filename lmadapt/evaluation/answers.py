"""What one model answers to an exam."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lmadapt.evaluation.exam import Exam, Item, conversation
from lmadapt.evaluation.variants import CachedModel
from lmadapt.models.generation import answer_in_batches
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import choose
from lmadapt.sources.answer_checks import score_answer


@dataclass(frozen=True)
class Answers:
    """What one model answered, in the order of the exam."""

    log_likelihoods: list[list[float]]  # nats, one a choice; empty where the model answers freely
    responses: list[str]
    scores: np.ndarray  # from 0 to 1; NaN for pairs of the fairness probe
    nats: np.ndarray  # negative log-likelihood of each document

    def of_items(self, places: Sequence[int]) -> "Answers":
        """The answers to the items at `places` of the exam, without documents."""
        return Answers(
            log_likelihoods=[self.log_likelihoods[place] for place in places],
            responses=[self.responses[place] for place in places],
            scores=self.scores[list(places)],
            nats=np.zeros(0),
        )


def answer_exam(
    model: CachedModel,
    tokenizer: Any,
    exam: Exam,
    *,
    name: str,
    batch_tokens: int,
    max_new_tokens: int,
) -> Answers:
    """What the model answers to every item and document; progress is shown under `name`.

    Raises UserError as `score` and `answer_in_batches` do.
    """
    ask = partial(score, model.load, batch_tokens=batch_tokens, recall=model.cache.recall)
    likelihoods = _score_choices(ask, exam, name)
    nats = _score_documents(ask, exam, name)
    responses = _answer_freely(model, tokenizer, exam, name, max_new_tokens)
    for place, values in likelihoods.items():
        choices = exam.items[place]["choices"]
        responses[place] = choices[choose(values, choices)]
    places = range(len(exam.items))
    scores = [_score(exam.items[place], responses[place]) for place in places]
    return Answers(
        log_likelihoods=[likelihoods.get(place, []) for place in places],
        responses=[responses[place] for place in places],
        scores=np.array(scores, float),
        nats=nats,
    )


def _score_choices(ask: Callable[..., Any], exam: Exam, name: str) -> dict[int, list[float]]:
    """By place of a multiple-choice item: the log-likelihood of each choice in nats."""
    asked = {place: question for place, question in enumerate(exam.questions) if question}
    with _progress(f"{name}: multiple choice", len(asked)) as done:
        return dict(zip(asked, ask(list(asked.values()), on_batch=done), strict=True))


def _score_documents(ask: Callable[..., Any], exam: Exam, name: str) -> np.ndarray:
    """The negative log-likelihood of each document in nats, summed over its windows."""
    flat = list(chain.from_iterable(exam.windows))
    with _progress(f"{name}: held-out text", len(flat)) as done:
        found = [values[0] for values in ask(flat, on_batch=done)]
    if not flat:
        return np.zeros(0)
    counts = [len(windows) for windows in exam.windows]
    owners = np.repeat(np.arange(len(counts)), counts)
    return -np.bincount(owners, weights=found, minlength=len(counts))


def _answer_freely(
    model: CachedModel, tokenizer: Any, exam: Exam, name: str, max_new_tokens: int
) -> dict[int, str]:
    """By place of an item without choices: what the model says."""
    places = [place for place, question in enumerate(exam.questions) if not question]
    with _progress(f"{name}: free answers", len(places)) as done:
        said = answer_in_batches(
            model.load,
            tokenizer,
            [conversation(tokenizer, exam.items[place]) for place in places],
            max_new_tokens=max_new_tokens,
            recall=model.cache.recall,
            on_batch=done,
        )
    return dict(zip(places, said, strict=True))


def _score(item: Item, response: str) -> float:
    if item["group"] == "fairness":
        return float("nan")
    if item["answer"] is not None and item["choices"]:
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
