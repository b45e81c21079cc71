"""Clusters of items that name no entity: near-duplicates share one."""

import logging
from collections.abc import Sequence

import numpy as np

# The similarity at which `curate` calls two texts near-duplicates (curate.near_duplicate_jaccard).
SIMILAR = 0.8

log = logging.getLogger(__name__)


def joined_clusters(ids: Sequence[str], clusters: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The cluster of each item, where items without one share it with their near-duplicates.

    ids, clusters, texts: (n,); a text is all that the item asks. An item without an entity (an
    empty cluster) that is at least SIMILAR to an earlier one of them (Jaccard similarity of
    shingles of five words) enters its cluster; one that is alone stays without.
    Warns once how many items have none: they count as independent, and intervals are too narrow
    where they are not.
    """
    found = list(clusters)
    bare = [place for place, cluster in enumerate(clusters) if not cluster]
    if not bare:
        return found
    repeated = 0
    for place, kept in _near_duplicates([texts[place] for place in bare]):
        name = f"like {ids[bare[kept]]}"
        found[bare[kept]] = found[bare[place]] = name
        repeated += 1
    log.warning(
        "%d of %d items name no entity, so they count as independent, except %d near-duplicates, "
        "which share a cluster with the item they repeat; where several items are about one thing "
        "or one passage, name it as `entity`, or the intervals are too narrow",
        len(bare),
        len(found),
        repeated,
    )
    return found


def _near_duplicates(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of a text and the earlier text that it repeats."""
    from lmadapt.curation.near_duplicates import WordStore, band_keys, near_duplicates
    from lmadapt.curation.word_hashes import split_words

    words, store = split_words(texts), WordStore()
    store.append(words)
    matches = near_duplicates(band_keys(words), np.arange(len(texts)), store, SIMILAR)
    return [(match.document, match.kept) for match in matches]
