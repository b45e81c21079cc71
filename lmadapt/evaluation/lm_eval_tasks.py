"""Tasks of lm-evaluation-harness: their items enter the same statistics as ours."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.evaluation.answers import Answers
from lmadapt.evaluation.clusters import joined_clusters
from lmadapt.evaluation.exam import Exam, Item
from lmadapt.evaluation.variants import CachedModel

METRICS = ("acc_norm", "acc", "exact_match")  # the first that a task has scores its items
# Fields of an item of a task that hold the text that several of its items are about.
PASSAGES = (
    "passage",
    "flores_passage",
    "context",
    "story",
    "article",
    "document",
    "paragraph",
    "background",
    "support",
    "source_id",  # of HellaSwag: the video or the how-to that the ending is from
)


class TaskAnswer(TypedDict):
    """An item of a task, and what a model answered to it."""

    id: str
    category: str  # the task
    passage: str  # what several items are about, shortened to a hash; empty where it has none
    prompt: str
    text: str  # all strings of the item, without solved examples
    target: str
    response: str
    score: float  # from 0 to 1


def answer_tasks(model: CachedModel, tokenizer: Any, tasks: Sequence[str]) -> list[TaskAnswer]:
    """What a model answers to each item of each task.

    A task is a name that the harness knows, or the path of a YAML file that defines one.
    Raises UserError when the harness does not know the task, or scores its items by none of
    METRICS.
    """
    found: list[TaskAnswer] = []
    for task in tasks:
        ask = partial(_answer, model, tokenizer, task)
        found += model.cache.recall(task_key(task), ask)
    return found


def add_tasks(
    exam: Exam, answers: Mapping[str, Answers], tasks: Mapping[str, list[TaskAnswer]]
) -> tuple[Exam, dict[str, Answers]]:
    """Append the items of the tasks, as general ability, and each model's answers to them.

    `answers` and `tasks` are by model. The cluster of an item is the passage that it is about.
    """
    asked = next(iter(tasks.values()))
    clusters = joined_clusters(
        [answer["id"] for answer in asked],
        [answer["passage"] for answer in asked],
        [answer["text"] for answer in asked],
    )
    items: list[Item] = [
        {**task_item(answer), "cluster": cluster}
        for answer, cluster in zip(asked, clusters, strict=True)
    ]
    count = len(items)
    longer = replace(exam, items=exam.items + items, questions=exam.questions + [None] * count)
    return longer, {
        name: replace(
            found,
            log_likelihoods=found.log_likelihoods + [[]] * count,
            responses=found.responses + [answer["response"] for answer in tasks[name]],
            scores=np.concatenate([found.scores, [answer["score"] for answer in tasks[name]]]),
        )
        for name, found in answers.items()
    }


def task_item(answer: TaskAnswer) -> Item:
    """The item of the exam that a task asked."""
    return {
        "id": answer["id"],
        "group": "general",
        "category": answer["category"],
        "cluster": answer["passage"],
        "prompt": answer["prompt"],
        "choices": [],
        "answer": None,
        "check": "",
        "severity": "",
        "target": answer["target"],
    }


def task_key(task: str) -> list[str]:
    """What tells one task from another: the harness's version, and the name or definition."""
    file = Path(task)
    definition = file.read_text(encoding="utf-8") if file.is_file() else task
    return ["lm-eval with passages", version("lm-eval"), definition]


def _answer(model: CachedModel, tokenizer: Any, task: str) -> list[TaskAnswer]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    file = Path(task)
    is_file = file.suffix == ".yaml"
    folder = str(file.parent) if is_file else None
    known = TaskManager(include_path=folder, include_defaults=not is_file)
    name = file.stem if is_file else task
    if name not in known.all_tasks:
        raise UserError(
            f"evaluate.lm_eval_tasks: no task {task!r}; allowed: a task of lm-evaluation-harness, "
            "or a YAML file with the same name as the task it defines"
        )
    found = simple_evaluate(
        model=HFLM(pretrained=model.load(), tokenizer=tokenizer, batch_size=8),
        tasks=[name],
        task_manager=known,
        bootstrap_iters=0,
        log_samples=True,
    )
    answers = []
    for part, samples in sorted(found["samples"].items()):
        answers += [_task_answer(part, sample) for sample in samples]
    return answers


def _task_answer(task: str, sample: dict[str, Any]) -> TaskAnswer:
    metric = next((name for name in METRICS if name in sample), None)
    if metric is None:
        raise UserError(
            f"evaluate.lm_eval_tasks: the task {task} has none of the scores that are allowed: "
            f"{', '.join(METRICS)}"
        )
    return {
        "id": f"lm-eval/{task}/{sample['doc_id']:06}",
        "category": task,
        "passage": _passage(sample["doc"]),
        "prompt": str(next(iter(sample["arguments"]))[0]),
        "text": " ".join(_strings(sample["doc"])),
        "target": str(sample["target"]),
        "response": str(sample["filtered_resps"]),
        "score": float(sample[metric]),
    }


def _passage(document: dict[str, Any]) -> str:
    """The passage of an item; the same text has one name in all tasks."""
    found = next((document[name] for name in PASSAGES if document.get(name)), None)
    if not isinstance(found, str):
        return ""
    return f"passage {hashlib.sha256(found.encode()).hexdigest()[:16]}"


def _strings(value: Any) -> list[str]:
    """The strings in nested dicts and lists, in order."""
    if isinstance(value, str):
        return [value]
    parts = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(parts, list | tuple):
        return []
    return [text for part in parts for text in _strings(part)]
