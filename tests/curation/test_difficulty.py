import math

import numpy as np
import pytest

from lmadapt.curation.difficulty import BUCKET_BITS, mean_surprisals
from lmadapt.curation.near_duplicates import WordStore
from lmadapt.curation.word_hashes import split_words


def test_surprisal_is_the_mean_of_minus_log2_of_the_share_of_each_word() -> None:
    store = WordStore()
    store.append(split_words(["the the the cat", "the", "cat the", "unseen", ""]))
    found = mean_surprisals(store, np.array([0, 1]), np.array([1, 2, 3, 4]))
    total = 2**BUCKET_BITS + 5
    the, cat, unseen = (-math.log2(count / total) for count in (5, 2, 1))
    assert found == pytest.approx([the, (cat + the) / 2, unseen, 0.0])


def test_no_texts_have_no_surprisals() -> None:
    assert len(mean_surprisals(WordStore(), np.empty(0, np.int64), np.empty(0, np.int64))) == 0
