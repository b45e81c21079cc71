"""Rules `heldout_entity` and `heldout_overlap`: which text is held out, and what must then go.

Entities are chosen by hash, so that adding data changes few of the choices.
"""

import hashlib
from collections.abc import Iterable, Sequence, Set

import numpy as np

from lmadapt.curation.decisions import (
    DOCUMENT_ROLES,
    INSTRUCTION_ROLES,
    RowDecision,
    remaining,
    with_texts,
)
from lmadapt.curation.near_duplicates import near_duplicates
from lmadapt.curation.screening import TrainingRows
from lmadapt.curation.word_hashes import fold


def hold_out(
    training: TrainingRows, avoided: Set[str], *, fraction: float, min_jaccard: float, seed: int
) -> None:
    """Move a fraction of the entities of corpus and general text to held-out text.

    Entities in `avoided` are taken last. Instructions go when they are about a held-out entity,
    or when a part of them near-duplicates held-out text. Documents that near-duplicate it were
    dropped before. Names that differ by case, spaces or Unicode form are one entity.
    """
    rows = training.rows
    avoided_forms = set(map(fold, avoided))
    chosen: set[str] = set()
    for role in DOCUMENT_ROLES:
        names: dict[str, str] = {}  # by form: the name of a unit that sorts first
        for row in sorted(remaining(rows, role), key=_unit):
            names.setdefault(_form(row), _unit(row))
        avoid = {name for form, name in names.items() if form in avoided_forms}
        held = heldout_entities(names.values(), avoid=avoid, fraction=fraction, seed=seed)
        chosen |= {form for form, name in names.items() if name in held}
    for row in remaining(rows, *DOCUMENT_ROLES):
        row.split = "heldout_text" if _form(row) in chosen else ""
    for row in remaining(rows, *INSTRUCTION_ROLES):
        if _form(row) in chosen:
            row.drop("heldout_entity", f"{row.entity} is held out")
    _drop_overlaps(training, min_jaccard)


def entities_to_avoid(rows: Sequence[RowDecision]) -> set[str]:
    """Entities whose text should stay in training.

    Those are entities that items ask about, and entities whose text was kept instead of a
    duplicate about such an entity.
    """
    asked = {row.entity for row in remaining(rows, "evaluation") if row.entity}
    forms = set(map(fold, asked))
    kept_instead = {
        row.duplicate_of.entity for row in rows if row.duplicate_of and fold(row.entity) in forms
    }
    return asked | kept_instead


def _drop_overlaps(training: TrainingRows, min_jaccard: float) -> None:
    """Drop instructions with a part that near-duplicates held-out text."""
    heldout = [row for row in remaining(training.rows, *DOCUMENT_ROLES) if row.split]
    texts_of = [(row, row.texts[0]) for row in heldout]
    texts_of += with_texts(remaining(training.rows, *INSTRUCTION_ROLES))
    owners = [row for row, _ in texts_of]
    texts = np.array([text for _, text in texts_of], np.int64)
    keys = training.keys_of(texts)
    for match in near_duplicates(keys, texts, training.store, min_jaccard, keepers=len(heldout)):
        kept = owners[match.kept]
        evidence = f"Jaccard {match.jaccard:.3f} >= {min_jaccard:g} with held-out {kept.id}"
        owners[match.document].drop("heldout_overlap", evidence, kept)


def _unit(row: RowDecision) -> str:
    """What is held out as a whole: an entity, or a document that names none."""
    return row.entity or f"document {row.id}"


def _form(row: RowDecision) -> str:
    """What the units that are one have in common."""
    return fold(row.entity) if row.entity else _unit(row)


def heldout_entities(
    entities: Iterable[str], *, avoid: Set[str], fraction: float, seed: int
) -> set[str]:
    """A `fraction` of the entities: at least one when fraction > 0, never all of them.

    Entities in `avoid` are taken only when the others are too few. An entity's rank depends on
    `seed` and its name alone.
    """
    candidates = sorted(set(entities), key=lambda entity: (entity in avoid, rank(entity, seed)))
    wanted = max(1, round(fraction * len(candidates))) if fraction > 0 else 0
    return set(candidates[: min(wanted, len(candidates) - 1)]) if candidates else set()


def rank(name: str, seed: int) -> bytes:
    """A sort key that depends on `seed` and the name alone."""
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest()
