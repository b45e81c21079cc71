"""Which entities are held out: chosen by hash, so that adding data moves few of them."""

import hashlib
from collections.abc import Iterable, Set


def heldout_entities(
    entities: Iterable[str], *, avoid: Set[str], fraction: float, seed: int
) -> set[str]:
    """A `fraction` of the entities, at least one when fraction > 0, never all of them.

    Entities in `avoid` are taken only when the others do not suffice. An entity's rank depends on `seed` and its
    name alone.
    """
    candidates = sorted(set(entities), key=lambda entity: (entity in avoid, rank(entity, seed)))
    wanted = max(1, round(fraction * len(candidates))) if fraction > 0 else 0
    return set(candidates[: min(wanted, len(candidates) - 1)]) if candidates else set()


def rank(entity: str, seed: int) -> bytes:
    """A place in an order that depends on `seed` and the name alone."""
    return hashlib.blake2b(f"{seed}\0{entity}".encode(), digest_size=16).digest()
