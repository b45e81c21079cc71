"""What metrics/curate.json holds: decisions by rule, leaks, and the sizes of the curated tables."""

from collections import Counter
from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from lmadapt.core.tables import CURATED_TABLES
from lmadapt.curation.decisions import (
    INSTRUCTION_ROLES,
    ROLES,
    TRAINING_ROLES,
    RowDecision,
    remaining,
)
from lmadapt.curation.difficulty import mean_surprisals
from lmadapt.curation.leaks import LeakCounts
from lmadapt.curation.near_duplicates import WordStore

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


def curation_metrics(
    rows: Sequence[RowDecision], leaks: LeakCounts, avoided: Set[str], store: WordStore
) -> dict[str, Any]:
    """The figures of a whole curation; `avoided` are entities that should not be held out."""
    kept = remaining(rows)
    tables = {
        table: [row for row in kept if row.split == table]
        for table in CURATED_TABLES
        if table != "decisions"
    }
    heldout = {row.entity for row in tables["heldout_text"]} - {""}
    trained = [row for row in remaining(rows, *TRAINING_ROLES) if row.split != "heldout_text"]
    trained_texts = np.array([row.texts[0] for row in trained], np.int64)
    return {
        "rows": count_decisions(rows),
        "tables": {table: _sizes(own, store, trained_texts) for table, own in tables.items()},
        "leaks": leaks,
        "heldout_entities": len(heldout),
        "heldout_entities_with_items": len(heldout & avoided),
    }


def count_decisions(rows: Sequence[RowDecision]) -> dict[str, Any]:
    """Rows by outcome, and reasons for edits and drops, for each role."""
    counts: dict[str, Any] = {}
    for role in ROLES:
        own = [row for row in rows if row.role == role]
        outcomes = Counter(row.outcome for row in own)
        counts[role] = {
            "raw": len(own),
            **{outcome: outcomes[outcome] for outcome in ("kept", "edited", "dropped")},
            "edited_by": dict(Counter(row.rule for row in own if row.outcome == "edited")),
            "dropped_by": dict(Counter(row.rule for row in own if row.outcome == "dropped")),
        }
    return counts


def _sizes(rows: Sequence[RowDecision], store: WordStore, trained: np.ndarray) -> dict[str, Any]:
    """Rows, words and characters of a table, and quantiles of the rows' lengths in words.

    The quantiles are 0, 5, 50, 95 and 100 %. Conversations also have quantiles of the length of
    their answers, and of the mean surprisal of their last answer under the word frequencies of
    the texts `trained`, in bits a word.
    """
    sizes = {
        "rows": len(rows),
        "words": sum(row.words for row in rows),
        "characters": sum(row.characters for row in rows),
        "words_quantiles": _quantiles([row.words for row in rows]),
    }
    if rows and rows[0].role in INSTRUCTION_ROLES:
        sizes["answer_words_quantiles"] = _quantiles([row.answer_words for row in rows])
        answers = np.array([row.texts[-1] for row in rows], np.int64)
        sizes["answer_surprisal_quantiles"] = _quantiles(mean_surprisals(store, trained, answers))
    return sizes


def _quantiles(values: Sequence[int] | np.ndarray) -> list[float]:
    return np.quantile(values, QUANTILES).round(1).tolist() if len(values) else []
