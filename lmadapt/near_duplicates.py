"""Near-duplicates: MinHash bands propose pairs, the exact Jaccard similarity of word shingles decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmadapt.words import Words, mix

SHINGLE_WORDS = 5
BANDS = 14  # 14 x 8 as in FineWeb (Penedo et al. 2024): 92 % of pairs of similarity 0.80 are proposed,
ROWS = 8  # 99 % of 0.85; each band is a hash of 8 minima (Broder 1997)
SEED = 1  # of the permutations only; it never changes a decision that the exact check did not confirm

_draw = np.random.default_rng(SEED)
_FACTORS = _draw.integers(2**31, size=BANDS * ROWS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
_SUMMANDS = _draw.integers(2**32, size=BANDS * ROWS, dtype=np.uint32)


@dataclass(frozen=True)
class Shingles:
    """Hashes of the distinct shingles of n documents, sorted within each; document i at offsets[i] to offsets[i+1]."""

    hashes: np.ndarray
    offsets: np.ndarray

    def of(self, document: int) -> np.ndarray:
        """The sorted, distinct shingle hashes of one document."""
        return self.hashes[self.offsets[document] : self.offsets[document + 1]]

    def jaccard(self, first: int, second: int) -> float:
        """Size of the intersection over size of the union of two documents' shingles; 0 when both are empty."""
        one, other = self.of(first), self.of(second)
        shared = len(np.intersect1d(one, other, assume_unique=True))
        return shared / max(1, len(one) + len(other) - shared)


@dataclass(frozen=True)
class Match:
    """A document that is a near-duplicate of one that is kept: indices, and their exact Jaccard similarity."""

    document: int
    kept: int
    jaccard: float


def shingle(words: Words) -> Shingles:
    """The distinct runs of SHINGLE_WORDS words of each document; a shorter document is one shingle."""
    sizes = np.minimum(words.counts, SHINGLE_WORDS)
    hashes, documents = [], []
    for size in range(1, SHINGLE_WORDS + 1):
        run, document = words.windows(size)
        wanted = sizes[document] == size
        hashes.append(run[wanted])
        documents.append(document[wanted])
    hash_, document = np.concatenate(hashes), np.concatenate(documents)
    order = np.lexsort((hash_, document))
    hash_, document = hash_[order], document[order]
    new = np.ones(len(hash_), bool)
    new[1:] = (hash_[1:] != hash_[:-1]) | (document[1:] != document[:-1])
    counts = np.bincount(document[new], minlength=len(words.texts))
    return Shingles(hash_[new], np.concatenate([[0], np.cumsum(counts)]))


def band_keys(shingles: Shingles) -> np.ndarray:
    """Band keys of each document, shape (n, BANDS), uint64; a key shared by two documents proposes them as a pair.

    The row of a document without shingles means nothing.
    """
    filled = np.flatnonzero(np.diff(shingles.offsets))
    keys = np.zeros((len(shingles.offsets) - 1, BANDS), np.uint64)
    if not len(filled):
        return keys
    high, starts = (shingles.hashes >> np.uint64(32)).astype(np.uint32), shingles.offsets[filled]
    for band in range(BANDS):
        key = np.full(len(filled), band + 1, np.uint64)
        for row in range(band * ROWS, (band + 1) * ROWS):
            minima = np.minimum.reduceat(high * _FACTORS[row] + _SUMMANDS[row], starts)
            key = mix(key * np.uint64(0x9E3779B97F4A7C15) + minima)
        keys[filled, band] = key
    return keys


def near_duplicates(shingles: Shingles, priority: Sequence[int], min_jaccard: float) -> Iterator[Match | None]:
    """Go through the documents in order of `priority` (indices, best first); yield a Match for each to be dropped.

    None is yielded for a document that is kept. Every dropped document has its near-duplicate among the kept, at
    least `min_jaccard` similar, and no two kept documents that share a band are: clusters cannot chain.
    """
    keys = band_keys(shingles).tolist()
    kept: dict[int, list[int]] = {}
    for document in priority:
        if not len(shingles.of(document)):
            yield None
            continue
        candidates = {other for key in keys[document] for other in kept.get(key, ())}
        best = max(((shingles.jaccard(document, other), -other) for other in candidates), default=(0.0, 0))
        if candidates and best[0] >= min_jaccard:
            yield Match(document, -best[1], best[0])
            continue
        for key in keys[document]:
            kept.setdefault(key, []).append(document)
        yield None


def overlaps(shingles: Shingles, probes: Sequence[int], others: Sequence[int], min_jaccard: float) -> list[Match]:
    """For each of `others` that is at least `min_jaccard` similar to a probe: its best match. Exact, without banding.

    Two sets that similar share one of their rarest elements, however few of those are looked at beyond the share
    that may differ (prefix filtering, Chaudhuri et al. 2006): only documents that do are compared.
    """
    rare, document = _rarest(shingles, min_jaccard)
    probing = np.isin(document, np.asarray(probes, np.int64))
    asked = np.isin(document, np.asarray(others, np.int64)) & np.isin(rare, rare[probing])
    probes_of: dict[int, list[int]] = {}
    for element, probe in zip(rare[probing].tolist(), document[probing].tolist(), strict=True):
        probes_of.setdefault(element, []).append(probe)
    pairs = {
        (other, probe)
        for element, other in zip(rare[asked].tolist(), document[asked].tolist(), strict=True)
        for probe in probes_of[element]
    }
    best: dict[int, Match] = {}
    for other, probe in sorted(pairs):
        jaccard = shingles.jaccard(other, probe)
        if jaccard >= min_jaccard and (other not in best or jaccard > best[other].jaccard):
            best[other] = Match(other, probe, jaccard)
    return list(best.values())


def _rarest(shingles: Shingles, min_jaccard: float) -> tuple[np.ndarray, np.ndarray]:
    """The rarest n - ceil(min_jaccard x n) + 1 of the n shingles of each document, and their documents."""
    _, number, counts = np.unique(shingles.hashes, return_inverse=True, return_counts=True)
    sizes = np.diff(shingles.offsets)
    document = np.repeat(np.arange(len(sizes)), sizes)
    number = number[np.lexsort((number, counts[number], document))]
    place = np.arange(len(number)) - shingles.offsets[document]
    # Rounding must not shorten a prefix: 0.8 x 5 may come out as 4.000000000000001.
    wanted = place <= (sizes - np.ceil(min_jaccard * sizes - 1e-9))[document]
    return number[wanted], document[wanted]
