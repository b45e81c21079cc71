"""Rules `exact_duplicate` and `near_duplicate`: of texts that say the same, one stays."""

from collections.abc import Sequence

import numpy as np

from lmadapt.curation.decisions import RowDecision, remaining
from lmadapt.curation.near_duplicates import Match, near_duplicates
from lmadapt.curation.screening import TrainingRows
from lmadapt.curation.signs import SHORT, with_signs


def drop_duplicates(training: TrainingRows, roles: Sequence[str], min_jaccard: float) -> None:
    """Drop exact duplicates, then near-duplicates, within and across `roles`.

    The row of the earlier role stays; within one role the longest row, then the smallest id.
    """
    ranked = sorted(
        remaining(training.rows, *roles),
        key=lambda row: (roles.index(row.role), -row.characters, row.id),
    )
    _drop_exact(ranked)
    ranked = remaining(ranked)
    texts = np.array([row.texts[0] for row in ranked], np.int64)
    matches = near_duplicates(
        training.keys_of(texts),
        texts,
        training.store,
        min_jaccard,
        similarity=lambda match: row_similarity(match, ranked),
    )
    for match in matches:
        kept = ranked[match.kept]
        evidence = f"Jaccard {match.jaccard:.3f} >= {min_jaccard:g} with {kept.id}"
        ranked[match.document].drop("near_duplicate", evidence, kept)


def row_similarity(match: Match, rows: Sequence[RowDecision]) -> float:
    """The similarity of two whole rows, in which the signs of short texts count as words."""
    one, other = rows[match.document], rows[match.kept]
    if max(one.words, other.words) > SHORT:  # the signs of longer texts are not known
        return match.jaccard
    return with_signs(match.jaccard, min(one.words, other.words), one.signs, other.signs)


def _drop_exact(ranked: Sequence[RowDecision]) -> None:
    first_with: dict[bytes, RowDecision] = {}
    for row in ranked:
        kept = first_with.setdefault(row.digest, row)
        if kept is not row:
            row.drop("exact_duplicate", f"equals {kept.id} up to case and spacing", kept)
