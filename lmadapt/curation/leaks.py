"""Rules `leak` and `leaked_item`: what goes when training text gives an evaluation item away.

Which text gives an item away is decided in lmadapt.curation.decontamination.
"""

from collections import defaultdict
from collections.abc import Sequence

from lmadapt.curation.decisions import TRAINING_ROLES, RowDecision, remaining

LeakCounts = dict[str, dict[str, dict[str, int]]]


def drop_leaks(rows: Sequence[RowDecision], on_leak: str) -> LeakCounts:
    """Drop the training rows that give an item away, or those items.

    on_leak: drop_document | drop_item. Returns, by category of the items and by role, how many
    `documents` hold `questions` or `answers` of how many items.
    """
    items = {row.id: row for row in rows if row.role == "evaluation"}
    found: dict[str, dict[str, dict[str, set[str]]]] = {
        item.category: {} for item in remaining(items.values())
    }
    for row in remaining(rows, *TRAINING_ROLES):
        for leak in row.leaks:
            item = items[leak.item]
            ids = found[item.category].setdefault(row.role, defaultdict(set))
            ids["documents"].add(row.id)
            ids[f"{leak.part}s"].add(item.id)
            if on_leak == "drop_item" and item.outcome != "dropped":
                item.drop("leaked_item", f"{row.role} {row.id} holds its {leak.part}: {leak.words}")
        if row.leaks and on_leak == "drop_document":
            first = row.leaks[0]
            row.drop("leak", f"{first.part} of item {first.item}: {first.words}")
    return {
        category: {role: _lengths(ids) for role, ids in roles.items()}
        for category, roles in found.items()
    }


def _lengths(ids: dict[str, set[str]]) -> dict[str, int]:
    return {key: len(own) for key, own in ids.items()}
