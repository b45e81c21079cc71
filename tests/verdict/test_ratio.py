import numpy as np
import pytest

from lmadapt.verdict.ratio import paired_ratio


def right(n: int, share: float, chance: float = 0.25) -> np.ndarray:
    """Answers of which the first `share` are right, beyond guessing."""
    return (np.arange(n) < share * n) - chance


def names(n: int) -> np.ndarray:
    return np.array([f"item {number}" for number in range(n)])


def test_the_ratio_is_that_of_the_means() -> None:
    found = paired_ratio(right(200, 0.5), right(200, 0.75), names(200), 0.05)
    assert found is not None
    assert found[0] == pytest.approx((0.5 - 0.25) / (0.75 - 0.25))
    assert found[1][0] < 0.5 < found[1][1]


def test_no_ratio_is_told_to_a_reference_that_only_guesses() -> None:
    assert paired_ratio(right(200, 0.5), right(200, 0.25), names(200), 0.05) is None
    assert paired_ratio(right(200, 0.5), right(200, 0.75), np.full(200, "one"), 0.05) is None


def test_few_items_that_all_agree_do_not_prove_that_all_comes_back() -> None:
    few = paired_ratio(right(8, 1), right(8, 1), names(8), 0.05)
    many = paired_ratio(right(400, 1), right(400, 1), names(400), 0.05)
    assert few is not None
    assert many is not None
    assert few[1][0] < 0.7
    assert 0.98 < many[1][0] < 1 < many[1][1]


@pytest.mark.parametrize("size", [1, 4])
def test_nine_of_ten_intervals_hold_the_true_ratio(size: int) -> None:
    draw, held, runs = np.random.default_rng(3), 0, 400
    for _ in range(runs):
        shared = np.repeat(draw.random(120 // size), size)
        own = np.where(draw.random(120) < 0.5, shared, draw.random(120))
        before, after = (own < 0.7) - 0.25, (draw.random(120) < 0.4) - 0.25
        clusters = np.array([f"c{number // size}" for number in range(120)])
        found = paired_ratio(after, before, clusters, 0.05)
        held += found is not None and found[1][0] <= 0.15 / 0.45 <= found[1][1]
    assert 0.86 <= held / runs <= 0.97
