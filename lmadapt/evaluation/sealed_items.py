"""The sealed part of an exam: items that only `lmadapt promote` asks.

Which items are sealed follows from what they are about, not from a seed, so that nobody draws
again until the draw pleases, and an item stays on its side when others are added.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.evaluation.exam import ABILITIES
from lmadapt.evaluation.exam_identity import item_sha256
from lmadapt.verdict.decision import MIN_ITEMS

Rows = list[dict[str, Any]]  # of the table ITEM


def split_sealed(items: Sequence[Mapping[str, Any]], fraction: float) -> tuple[Rows, Rows]:
    """The open items and the sealed ones, which are domain and general items.

    All items of an entity are on one side; an item without one is drawn by its own content. About
    `fraction` of the entities are sealed. Raises UserError when a category has too few items on one
    side to be judged there.
    """
    opened: Rows = []
    sealed: Rows = []
    for item in items:
        closed = item["group"] in ABILITIES and _draw(item) < fraction
        (sealed if closed else opened).append(dict(item))
    if fraction > 0:
        for side, rows in (("open", opened), ("sealed", sealed)):
            _require_enough(side, items, rows, fraction)
    return opened, sealed


def _draw(item: Mapping[str, Any]) -> float:
    """A number from 0 to 1 that the item's entity determines."""
    name = item["cluster"] or item_sha256(item)
    digest = hashlib.sha256(f"sealed\n{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _require_enough(
    side: str, items: Sequence[Mapping[str, Any]], rows: Rows, fraction: float
) -> None:
    found = Counter((row["group"], row["category"]) for row in rows)
    for group, category in sorted({(item["group"], item["category"]) for item in items}):
        count = found[group, category]
        if group in ABILITIES and count < MIN_ITEMS:
            raise UserError(
                f"evaluate.sealed_fraction: {fraction} leaves {count} {side} items of category "
                f"{category!r}; at least {MIN_ITEMS} are needed: add items, or set it to 0"
            )
