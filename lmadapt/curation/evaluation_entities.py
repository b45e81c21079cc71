"""Rule `evaluation_entity`: no instruction or replayed text is about what an item asks about.

The corpus may be: it is meant to hold the facts that domain items ask for.
"""

from collections.abc import Sequence

from lmadapt.curation.decisions import INSTRUCTION_ROLES, RowDecision, remaining
from lmadapt.curation.word_hashes import fold


def drop_evaluation_entities(rows: Sequence[RowDecision]) -> None:
    """Drop instructions and general text about an entity that an item asks about.

    Names that differ by case, spaces or Unicode form are one entity.
    """
    items = {fold(row.entity): row for row in remaining(rows, "evaluation") if row.entity}
    for row in remaining(rows, "general_text", *INSTRUCTION_ROLES):
        item = items.get(fold(row.entity))
        if item:
            row.drop("evaluation_entity", f"{row.entity} is asked about by item {item.id}")
