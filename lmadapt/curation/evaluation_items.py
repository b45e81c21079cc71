"""Rules `broken_item` and `duplicate_item`: which evaluation items can be asked and scored."""

import hashlib
from collections.abc import Sequence
from typing import Any

from lmadapt.curation.cleaning import clean
from lmadapt.curation.decisions import RowDecision
from lmadapt.curation.quality import item_problem
from lmadapt.curation.word_hashes import fold, split_words

Item = dict[str, Any]  # a row of the raw table `evaluation`


def screen_items(items: Sequence[Item]) -> list[RowDecision]:
    """Clean items in place; drop those that are broken or repeat an earlier item of their group."""
    rows = [_row(item) for item in items]
    first_asked: dict[tuple[str, ...], RowDecision] = {}
    for row, item in zip(rows, items, strict=True):
        _clean(item, row)
        problem = item_problem(item)
        if problem:
            row.drop("broken_item", problem)
            continue
        question = (item["system"] or "", item["prompt"], *item["choices"])
        key = (item["group"], *map(fold, question))
        first = first_asked.setdefault(key, row)
        if first is not row:
            row.drop("duplicate_item", f"same prompt and choices as {first.id}", first)
    counts = split_words([item["prompt"] for item in items]).counts.tolist()
    for row, words in zip(rows, counts, strict=True):
        row.words = words
    return rows


def _row(item: Item) -> RowDecision:
    return RowDecision(
        role="evaluation",
        source=item["source"],
        location=item["location"],
        id=item["id"],
        entity=item["cluster"] or "",
        category=f"{item['group']}/{item['category']}",
    )


def _clean(item: Item, row: RowDecision) -> None:
    raw = [item["prompt"] or "", *(choice or "" for choice in item["choices"] or ())]
    if item["system"]:
        raw.append(item["system"])
    row.content_hash = hashlib.sha256("\0".join(raw).encode()).hexdigest()
    cleaned = [clean(text) for text in raw]
    texts = [one.text for one in cleaned]
    if item["system"]:
        item["system"] = texts.pop()
    item["prompt"], *item["choices"] = texts
    for one in cleaned:
        if one.rule:
            row.edit(one.rule, one.evidence)
    row.characters = len(item["prompt"])
