import random
from functools import cache
from itertools import product

import numpy as np
import pytest

from lmadapt.curation.near_duplicates import KEYS, Match, WordStore, band_keys, near_duplicates
from lmadapt.curation.word_hashes import normal_form, split_words
from tests.raw_tables import prose

# In the texts below: each of the first 40 texts, and its four variants.
PLANTED = [(n // 4, 40 + n) for n in range(160)]


def variants(text: str, changes: int, seed: int) -> str:
    draw, words = random.Random(seed), text.split()
    for place in draw.sample(range(len(words)), changes):
        words[place] = f"changed{draw.randrange(10**6)}"
    return " ".join(words)


@cache
def runs(text: str) -> set[tuple[str, ...]]:
    words = normal_form(text).split()
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))}


def brute_force_jaccard(one: str, other: str) -> float:
    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


def matches(texts: list[str], min_jaccard: float = 0.8, **options: int) -> list[Match]:
    words, store = split_words(texts), WordStore()
    store.append(words)
    return list(
        near_duplicates(band_keys(words), np.arange(len(texts)), store, min_jaccard, **options)
    )


@pytest.fixture(scope="module")
def texts() -> list[str]:
    base = [prose(seed, 200) for seed in range(40)]
    near = [variants(text, changes, changes) for text, changes in product(base, (1, 3, 6, 12))]
    return [
        *base,
        *near,
        "Ünïcödé wörds: ß, ﬁ, 漢字 とかな!",
        "ünïcödé WÖRDS ss fi 漢字とかな",
        "short text",
        "",
        "!",
    ]


def test_similarity_equals_jaccard_by_brute_force(texts: list[str]) -> None:
    store = WordStore()
    for start in range(0, len(texts), 7):  # as groups come
        store.append(split_words(texts[start : start + 7]))
    draw = random.Random(0)
    pairs = [*PLANTED, (200, 201)]
    pairs += [(draw.randrange(203), draw.randrange(203)) for _ in range(300)]
    for one, other in pairs:
        (jaccard,) = store.jaccards(one, np.array([other]))
        assert jaccard == pytest.approx(brute_force_jaccard(texts[one], texts[other]))
    assert store.jaccards(200, np.array([201, 0])).tolist() == [1.0, 0.0]


def test_pairs_above_the_threshold_are_found_and_no_other_is_dropped(texts: list[str]) -> None:
    found = matches(texts)
    true = {other for one, other in PLANTED if brute_force_jaccard(texts[one], texts[other]) >= 0.8}
    assert all(
        m.jaccard == pytest.approx(brute_force_jaccard(texts[m.document], texts[m.kept]))
        for m in found
    )
    assert all(match.jaccard >= 0.8 for match in found)
    dropped = {match.document for match in found}
    assert len(true & dropped) >= 0.98 * len(true) > 50
    assert dropped <= true | {201}


def test_nearly_all_pairs_at_the_threshold_itself_are_proposed() -> None:
    base = [prose(seed, 400) for seed in range(150)]
    twins = [variants(text, 9, seed) for seed, text in enumerate(base)]
    true = {150 + n for n in range(150) if 0.8 <= brute_force_jaccard(base[n], twins[n]) < 0.85}
    found = {match.document for match in matches(base + twins)}
    assert len(true) > 50
    assert len(true & found) >= 0.97 * len(true)


def test_a_dropped_document_has_its_twin_among_the_kept_so_clusters_do_not_chain() -> None:
    words = prose(1, 200).split()
    chain = [" ".join(words[shift : shift + 150]) for shift in range(0, 50, 5)]
    found = {match.document: match for match in matches(chain)}
    assert found
    assert all(match.kept not in found for match in found.values())
    assert len(found) < len(chain) - 1


def test_the_first_is_kept() -> None:
    assert matches(["one two three four five six"] * 3) == [Match(1, 0, 1.0), Match(2, 0, 1.0)]


def test_only_keepers_drop_others() -> None:
    texts = ["one two three four five six"] * 2 + ["seven eight nine ten eleven"] * 2
    assert matches(texts, keepers=1) == [Match(1, 0, 1.0)]
    assert matches(texts, keepers=0) == []


def test_short_questions_from_one_template_are_not_duplicates() -> None:
    assert not matches(
        [f"Which weakness is described: {prose(n, 6)} {prose(n + 50, 3)}" for n in range(30)]
    )


def test_scripts_without_spaces_are_compared_by_character() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    (match,) = matches([text, text[:299] + "々"])
    assert match.jaccard == pytest.approx(brute_force_jaccard(text, text[:299] + "々"))


def test_documents_without_words_match_nothing() -> None:
    assert band_keys(split_words(["", "!", "a b c d e f"])).shape == (3, KEYS)
    assert not matches(["", "!", "", "a b c d e f"])
    assert not matches([])


def test_reading_stops_early_only_for_texts_below_the_limit() -> None:
    original = prose(60)
    texts = [
        original,
        *(variants(original, changes, seed=changes) for changes in range(0, 60, 2)),
        prose(400),
    ]
    store = WordStore()
    store.append(split_words(texts))
    others = np.arange(1, len(texts))
    exact, cut = store.jaccards(0, others), store.jaccards(0, others, at_least=0.6)
    assert (cut[exact >= 0.6] == exact[exact >= 0.6]).all()
    assert (cut[exact < 0.6] < 0.6).all()
    assert (exact >= 0.6).any()
    assert (cut[exact < 0.6] == 0).any()


def test_a_low_limit_leaves_room_for_every_shingle_of_the_other_text() -> None:
    texts = ["", "one", prose(1, 300), prose(2, 300), " ".join(map(str, range(2000)))]
    store = WordStore()
    store.append(split_words(texts))
    for one in range(len(texts)):
        assert store.jaccards(one, np.arange(len(texts)), at_least=0.01)[one] == 1.0
