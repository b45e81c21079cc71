"""Results of lm-evaluation-harness: the files samples_TASK_DATE.jsonl that `--log_samples` writes.

A line is one document under one filter: `doc`, `target`, `filter`, `metrics` and a key for each
metric, `doc_hash`, `prompt_hash` (lm_eval/evaluator.py, releases 0.4.x).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.sources.item_scores import (
    Choice,
    ItemScore,
    Results,
    checked_score,
    content_hash,
    one_metric,
    read_rows,
    text_field,
)

METRICS = ("exact_match", "acc_norm", "acc")  # without a choice, the first that a task has
# Texts that several questions of a task are about (BoolQ, RACE, SQuAD, CoQA, …).
PASSAGES = ("passage", "article", "context", "story", "document")
SAMPLES = "samples_*.jsonl"
NAME = re.compile(r"samples_(.+)_\d{4}-\d\d-\d\dT[\d.-]+\.jsonl")

Rows = list[tuple[str, Mapping[str, Any]]]


def read_lm_eval(path: Path, choice: Choice) -> Results:
    """The scores in a samples file, or in all samples files in a folder and below it.

    Raises UserError naming file, line or task: no file, two files of one task, no such metric or
    filter, a value that is no score from 0 to 1.
    """
    items: list[ItemScore] = []
    scored_by: dict[str, str] = {}
    notes: list[str] = []
    for task, file in _task_files(path).items():
        rows, name, note = _one_filter(task, read_rows(file), choice)
        metric = _metric(task, rows, choice)
        passage = "" if choice.cluster else _passage_field(rows)
        found = [_item(task, place, record, metric, passage, choice) for place, record in rows]
        items += found
        scored_by[task] = metric if name == "none" else f"{metric}, filter {name}"
        notes += [note] if note else []
        if passage:
            count = len({item.cluster for item in found})
            notes.append(f"{task}: items with the same `{passage}` are one cluster ({count:,})")
    used = any(how.endswith(f"filter {choice.filter}") for how in scored_by.values())
    if choice.filter and not used:
        raise UserError(f"{path}: --filter {choice.filter}: no task has this filter")
    return Results("lm-eval", items, scored_by, notes)


def _task_files(path: Path) -> dict[str, Path]:
    """By task: its file."""
    files = sorted(path.rglob(SAMPLES)) if path.is_dir() else [path]
    tasks: dict[str, Path] = {}
    for file in files:
        named = NAME.fullmatch(file.name)
        task = named[1] if named else file.stem
        if task in tasks:
            raise UserError(
                f"{path}: two files have samples of the task {task}: {tasks[task]} and {file}; "
                "name the folder of one run, or one file"
            )
        tasks[task] = file
    if not tasks:
        raise UserError(f"{path}: has no {SAMPLES}; `lm_eval run --log_samples` writes them")
    return tasks


def _one_filter(task: str, rows: Rows, choice: Choice) -> tuple[Rows, str, str]:
    """The rows under one filter, its name, and a note when the first of several was taken."""
    names = list(dict.fromkeys(str(record.get("filter", "none")) for _, record in rows))
    if len(names) == 1:
        return rows, names[0], ""
    if choice.filter and choice.filter not in names:
        raise UserError(
            f"{rows[0][0]}: the task {task} has no filter {choice.filter!r}; --filter: one of "
            f"{', '.join(names)}"
        )
    name = choice.filter or names[0]
    note = "" if choice.filter else f"{task}: filter {name}, the first of {', '.join(names)}"
    return [row for row in rows if row[1].get("filter") == name], name, note


def _metric(task: str, rows: Rows, choice: Choice) -> str:
    place, record = rows[0]
    known = record.get("metrics", [name for name in METRICS if name in record])
    metric = one_metric(known, choice, METRICS)
    if metric is None:
        wanted = ", ".join(choice.metrics or METRICS)
        raise UserError(
            f"{place}: the task {task} has none of the metrics {wanted}; --metric: one of "
            f"{', '.join(known) or 'none'}"
        )
    return metric


def _passage_field(rows: Rows) -> str:
    """The field whose text is that of several items; "" when there is none."""
    for name in PASSAGES:
        texts = [record["doc"].get(name) for _, record in rows]
        if all(isinstance(text, str) and text for text in texts) and len(set(texts)) < len(texts):
            return name
    return ""


def _item(
    task: str, place: str, record: Mapping[str, Any], metric: str, passage: str, choice: Choice
) -> ItemScore:
    doc = record["doc"]
    cluster = ""
    if choice.cluster:
        cluster = text_field(doc, choice.cluster, place, "--cluster")
    elif passage:
        cluster = content_hash(doc[passage])
    return ItemScore(
        place=place,
        task=task,
        id=str(record["doc_id"]),
        content=content_hash(record.get("doc_hash") or doc, record.get("target")),
        category=text_field(doc, choice.category, place, "--category") if choice.category else task,
        score=checked_score(record.get(metric), place, metric),
        cluster=cluster,
        prompt=str(record.get("prompt_hash", "")),
    )
