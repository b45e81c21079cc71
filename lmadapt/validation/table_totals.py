"""Frames about whole tables: the categories of items, and the totals of all tables."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lmadapt.curation.decisions import TABLE_OF, TRAINING_ROLES

TRAINING_TABLES = tuple(TABLE_OF[role] for role in TRAINING_ROLES)
CATEGORY_COLUMNS = ["id", "source", "location", "items", "clusters", "general_items"]


def category_frame(items: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each category of domain and of general items: number of items and of clusters.

    `general_items` is empty for a domain category. An item without a cluster is its own cluster.
    """
    clusters: dict[tuple[str, str], Counter[str]] = {}
    for item in items:
        if item["group"] in ("domain", "general"):
            category = clusters.setdefault((item["group"], item["category"]), Counter())
            category[item["cluster"] or f"\0{item['id']}"] += 1
    rows = []
    for (group, name), sizes in sorted(clusters.items()):
        rows.append(
            {
                "id": name,
                "source": "items",
                "location": group,
                "items": sizes.total(),
                "clusters": len(sizes),
                "general_items": sizes.total() if group == "general" else None,
            }
        )
    return pd.DataFrame(rows, columns=CATEGORY_COLUMNS)


def totals_frame(
    items: Sequence[Mapping[str, Any]], frames: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """One row: counts of rows, items and tokens, and the shares that replay could have."""
    groups = Counter(item["group"] for item in items)
    heldout_groups = Counter(frames["heldout_text"]["group"])
    tokens = {table: int(frames[table]["tokens"].sum()) for table in TRAINING_TABLES}
    supervised = {table: int(frames[table]["supervised_tokens"].sum()) for table in TRAINING_TABLES}
    unsupervised = tokens["instructions"] - supervised["instructions"]
    general_categories = {item["category"] for item in items if item["group"] == "general"}
    totals = {
        **{f"{table}_rows": len(frames[table]) for table in TRAINING_TABLES},
        **{f"{group}_items": groups[group] for group in ("domain", "general", "behaviour")},
        **{f"heldout_{kind}_documents": heldout_groups[kind] for kind in ("domain", "general")},
        "general_categories": len(general_categories),
        "corpus_tokens": tokens["corpus"],
        "instruction_tokens": tokens["instructions"],
        "supervised_fraction": _share(supervised["instructions"], unsupervised),
        "replay_text_fraction": _share(tokens["replay_text"], tokens["corpus"]),
        "replay_instructions_fraction": _share(
            supervised["replay_instructions"], supervised["instructions"]
        ),
    }
    return pd.DataFrame([{"id": "totals", "source": "data/curated", "location": "", **totals}])


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part else 0.0
