"""Tasks of lm-evaluation-harness, by name or as a YAML file: their items enter the same statistics as ours."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lmadapt.core.errors import UserError
from lmadapt.evaluation.exam import Answers, Exam, Row
from lmadapt.evaluation.variants import Examinee

METRICS = (
    "acc_norm",
    "acc",
    "exact_match",
)  # the one that scores an item: the first that the task has


def answer_tasks(examinee: Examinee, tokenizer: Any, tasks: Sequence[str]) -> list[Row]:
    """What the harness measured of each item of each task: id, category, prompt, target, response and score.

    A task is a name the harness knows, or the path of a YAML file with one. Raises UserError when the harness is not
    installed, does not know the task, or scores its items by none of acc_norm, acc and exact_match.
    """
    rows = []
    for task in tasks:
        rows += examinee.cache.recall(_question(task), partial(_answer, examinee, tokenizer, task))
    return rows


def add_tasks(
    exam: Exam, answers: Mapping[str, Answers], rows: Mapping[str, list[Row]]
) -> tuple[Exam, dict[str, Answers]]:
    """The exam with the harness's items behind ours, as general ability, and every model's answers to all of them."""
    first = next(iter(rows.values()))
    items = [
        {
            "id": row["id"],
            "group": "general",
            "category": row["category"],
            "cluster": "",
            "prompt": row["prompt"],
        }
        | {"choices": [], "answer": None, "check": "", "severity": "", "target": row["target"]}
        for row in first
    ]
    longer = replace(exam, items=exam.items + items, questions=exam.questions + [None] * len(items))
    return longer, {
        name: replace(
            found,
            log_likelihoods=found.log_likelihoods + [[]] * len(items),
            responses=found.responses + [row["response"] for row in rows[name]],
            scores=np.concatenate([found.scores, [row["score"] for row in rows[name]]]),
        )
        for name, found in answers.items()
    }


def _question(task: str) -> list[str]:
    file = Path(task)
    return [
        "lm-eval",
        version("lm-eval"),
        file.read_text(encoding="utf-8") if file.is_file() else task,
    ]


def _answer(examinee: Examinee, tokenizer: Any, task: str) -> list[Row]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    file = Path(task)
    local = file.suffix == ".yaml"
    known = TaskManager(
        include_path=str(file.parent) if local else None, include_defaults=not local
    )
    name = file.stem if local else task
    if name not in known.all_tasks:
        raise UserError(
            f"evaluate.lm_eval_tasks: no task {task!r}; a YAML file is named like the task it holds"
        )
    found = simple_evaluate(
        model=HFLM(pretrained=examinee.model(), tokenizer=tokenizer, batch_size=8),
        tasks=[name],
        task_manager=known,
        bootstrap_iters=0,
        log_samples=True,
    )
    return [
        _row(part, sample)
        for part, samples in sorted(found["samples"].items())
        for sample in samples
    ]


def _row(task: str, sample: dict[str, Any]) -> Row:
    metric = next((name for name in METRICS if name in sample), None)
    if metric is None:
        raise UserError(
            f"evaluate.lm_eval_tasks: {task} has none of the scores {', '.join(METRICS)}"
        )
    return {
        "id": f"lm-eval/{task}/{sample['doc_id']:06}",
        "category": task,
        "prompt": str(next(iter(sample["arguments"]))[0]),
        "target": str(sample["target"]),
        "response": str(sample["filtered_resps"]),
        "score": float(sample[metric]),
    }
