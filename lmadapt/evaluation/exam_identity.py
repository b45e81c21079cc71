"""What an exam asks, as hashes: two exams are one only if they ask the same and judge it alike.

Ids do not tell that. A file of other questions may have the ids of an earlier one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

JUDGED_GROUPS = ("domain", "general", "behaviour")  # what can hold a model; fairness cannot


def item_sha256(item: Mapping[str, Any]) -> str:
    """Hexadecimal SHA-256 of what an item asks and accepts, over normalised JSON.

    These are its prompt, its choices, its key (the index of the right choice, or the target of an
    item of lm-evaluation-harness) and the check of a free answer. Spaces and the order of keys in a
    check do not matter; id, category and cluster are not in it.
    """
    key = item["answer"] if item["answer"] is not None else item.get("target")
    check = json.loads(item["check"]) if item["check"] else None
    asked = {
        "prompt": item["prompt"],
        "choices": list(item["choices"]),
        "key": key,
        "check": check,
    }
    return _sha256(asked)


def exam_sha256(items: Iterable[Mapping[str, Any]], tasks: Sequence[Sequence[str]] = ()) -> str:
    """Hexadecimal SHA-256 of an exam: its items, how they are grouped, and tasks asked with them.

    items: rows of the table ITEM, in any order; `tasks`: `lm_eval_tasks.task_key` of each task.
    Group, category and cluster are in it because the verdict depends on them; ids are not.
    """
    rows = [
        [item_sha256(item), item["group"], item["category"], item["cluster"]]
        for item in items
        if item["group"] in JUDGED_GROUPS
    ]
    return _sha256({"items": sorted(rows), "tasks": sorted(map(list, tasks))})


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
