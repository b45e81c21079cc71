import random
from functools import cache

import numpy as np
import pytest

from lmadapt.near_duplicates import BANDS, Match, band_keys, near_duplicates, overlaps, shingle
from lmadapt.words import split_words
from tests.raw_tables import prose


def variants(text: str, changes: int, seed: int) -> str:
    draw, words = random.Random(seed), text.split()
    for place in draw.sample(range(len(words)), changes):
        words[place] = f"changed{draw.randrange(10**6)}"
    return " ".join(words)


@cache
def runs(text: str) -> set[tuple[str, ...]]:
    words = split_words([text]).texts[0].split()
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))}


def brute_force_jaccard(one: str, other: str) -> float:
    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    base = [prose(seed, 200) for seed in range(40)]
    near = [variants(text, changes, changes) for text in base for changes in (1, 3, 6, 12)]
    return [*base, *near, "Ünïcödé wörds: ß, ﬁ, 漢字 とかな!", "ünïcödé WÖRDS ss fi 漢字とかな", "short text", "", "!"]


def test_similarity_equals_brute_force_jaccard(texts: list[str]) -> None:
    shingles = shingle(split_words(texts))
    draw = random.Random(0)
    pairs = [(n, 40 + 4 * n + k) for n in range(40) for k in range(4)] + [(200, 201)]
    pairs += [(draw.randrange(203), draw.randrange(203)) for _ in range(300)]
    for one, other in pairs:
        assert shingles.jaccard(one, other) == pytest.approx(brute_force_jaccard(texts[one], texts[other]))
    assert shingles.jaccard(200, 201) == 1.0


def test_pairs_above_the_threshold_are_found_and_no_other_is_dropped(texts: list[str]) -> None:
    matches = [m for m in near_duplicates(shingle(split_words(texts)), range(len(texts)), 0.8) if m]
    true = {
        other
        for n in range(40)
        for other in range(40 + 4 * n, 44 + 4 * n)
        if brute_force_jaccard(texts[n], texts[other]) >= 0.8
    }
    dropped = {match.document for match in matches}
    assert all(
        match.jaccard == pytest.approx(brute_force_jaccard(texts[match.document], texts[match.kept]))
        for match in matches
    )
    assert all(match.jaccard >= 0.8 for match in matches)
    assert len(true & dropped) >= 0.95 * len(true) > 50
    assert dropped <= true | {201}


def test_a_dropped_document_has_its_twin_among_the_kept_so_clusters_do_not_chain() -> None:
    words = prose(1, 200).split()
    chain = [" ".join(words[shift : shift + 150]) for shift in range(0, 50, 5)]
    matches = {m.document: m for m in near_duplicates(shingle(split_words(chain)), range(len(chain)), 0.8) if m}
    assert matches
    assert all(match.kept not in matches for match in matches.values())
    assert len(matches) < len(chain) - 1


def test_the_first_in_priority_is_kept() -> None:
    shingles = shingle(split_words(["one two three four five six"] * 2))
    assert [m for m in near_duplicates(shingles, [1, 0], 0.8) if m] == [Match(document=0, kept=1, jaccard=1.0)]


def test_templated_short_questions_are_no_duplicates() -> None:
    questions = [f"Which weakness is described: {prose(n, 6)} {prose(n + 50, 3)}" for n in range(30)]
    assert not any(near_duplicates(shingle(split_words(questions)), range(30), 0.8))


def test_documents_without_words_match_nothing(texts: list[str]) -> None:
    shingles = shingle(split_words(["", "!", "a b c d e f"]))
    assert band_keys(shingles).shape == (3, BANDS)
    assert not any(near_duplicates(shingles, range(3), 0.8))
    assert np.array_equal(band_keys(shingle(split_words(["", ""]))), np.zeros((2, BANDS)))


def test_overlaps_are_exact_where_banding_may_miss(texts: list[str]) -> None:
    shingles = shingle(split_words(texts))
    found = {(m.kept, m.document): m.jaccard for m in overlaps(shingles, range(5), range(40, 200), 0.5)}
    expected = {
        (n, other): brute_force_jaccard(texts[n], texts[other])
        for n in range(5)
        for other in range(40, 200)
        if brute_force_jaccard(texts[n], texts[other]) >= 0.5
    }
    assert found == pytest.approx(expected)
    assert overlaps(shingles, [], range(5), 0.5) == []
