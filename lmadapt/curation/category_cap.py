"""Rule `category_cap`: no category of instructions outgrows the others."""

from collections import Counter
from collections.abc import Sequence

from lmadapt.curation.decisions import RowDecision, remaining
from lmadapt.curation.splitting import rank


def cap_categories(rows: Sequence[RowDecision], most: int, seed: int) -> None:
    """Drop instructions beyond `most` of a category; who stays depends on `seed` and id alone."""
    counts: Counter[str] = Counter()
    for row in sorted(remaining(rows, "instructions"), key=lambda row: rank(row.id, seed)):
        counts[row.category] += 1
        if counts[row.category] > most:
            row.drop("category_cap", f"{row.category} has more than {most} instructions")
