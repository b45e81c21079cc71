"""Intervals of ratios over documents, such as bits per byte."""

import numpy as np
import pytest
from scipy import stats

from lmadapt.core.errors import UserError
from lmadapt.verdict.ratio_interval import clustered_ratio
from lmadapt.verdict.statistics import Array, clustered_mean

CASES = range(5)


def documents(seed: int, count: int, *, giant: float = 0.0) -> tuple[Array, Array]:
    """Bits and bytes of documents; the first has the share `giant` of all bytes."""
    draw = np.random.default_rng(seed)
    sizes = draw.uniform(500, 2000, count)
    if giant:
        sizes[0] = sizes[1:].sum() * giant / (1 - giant)
    return sizes * draw.normal(0.9, 0.15, count), sizes


@pytest.mark.parametrize("seed", CASES)
def test_documents_of_one_size_have_students_interval(seed: int) -> None:
    rates = np.random.default_rng(seed).normal(0.9, 0.2, 12)
    ratio = clustered_ratio(rates * 700, np.full(12, 700.0), np.arange(12))
    expected = stats.ttest_1samp(rates, 0).confidence_interval(0.9)
    assert ratio.value == pytest.approx(rates.mean())
    assert ratio.interval(0.05) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("giant", [0.0, 0.56])
def test_the_squared_error_is_unbiased_where_documents_vary_equally(giant: float) -> None:
    draw, (_, sizes) = np.random.default_rng(0), documents(0, 10, giant=giant)
    truth = 0.15**2 * np.sum((sizes / sizes.sum()) ** 2)
    squared = [
        clustered_ratio(sizes * draw.normal(0.9, 0.15, 10), sizes, np.arange(10)).standard_error
        ** 2
        for _ in range(1000)
    ]
    assert np.mean(squared) == pytest.approx(truth, rel=0.12)


def test_the_mean_of_items_underestimates_the_error_of_a_giant_document() -> None:
    draw, (_, sizes) = np.random.default_rng(0), documents(0, 10, giant=0.56)
    counts = np.round(sizes / 20).astype(int)
    clusters = np.repeat(np.arange(10), counts)
    truth = 0.15**2 * np.sum((counts / counts.sum()) ** 2)
    squared = [
        clustered_mean(draw.normal(0.9, 0.15, 10)[clusters], clusters).standard_error ** 2
        for _ in range(300)
    ]
    assert np.mean(squared) < 0.7 * truth


@pytest.mark.parametrize(("count", "giant"), [(10, 0.0), (30, 0.0), (10, 0.56)])
def test_an_interval_of_90_percent_covers_about_as_much(count: int, giant: float) -> None:
    covered, runs = 0, 600
    for seed in range(runs):
        bits, sizes = documents(seed, count, giant=giant)
        low, high = clustered_ratio(bits, sizes, np.arange(count)).interval(0.05)
        covered += low <= 0.9 <= high
    assert 0.86 <= covered / runs <= 0.96


def test_documents_of_one_entity_count_once() -> None:
    bits, sizes = documents(0, 12)
    together = clustered_ratio(np.repeat(bits, 3), np.repeat(sizes, 3), np.repeat(range(12), 3))
    alone = clustered_ratio(bits, sizes, np.arange(12))
    assert together.interval(0.05) == pytest.approx(alone.interval(0.05))
    assert alone.clusters == 12


def test_the_ratio_is_of_the_sums() -> None:
    ratio = clustered_ratio(np.array([1.0, 5.0]), np.array([1.0, 9.0]), np.array(["a", "b"]))
    assert ratio.value == pytest.approx(0.6)


def test_documents_of_one_entity_alone_have_no_interval() -> None:
    with pytest.raises(UserError, match="all 2 texts belong to one cluster, 'x'"):
        clustered_ratio(np.ones(2), np.ones(2), np.array(["x", "x"]))
