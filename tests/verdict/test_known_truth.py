import numpy as np
import pytest

from benchmarks.verdict_known_truth import Design, draw_clusters, draw_evaluation, draw_pair
from lmadapt.verdict.decision import compare, judge


@pytest.mark.parametrize(
    "design",
    [
        Design(200_000, lost=0.03, gained=0.01),
        Design(200_000, 4, 0.3, lost=0.1, gained=0.05),
        Design(200_000, 10, 0.1, lost=0.02, gained=0.2),
    ],
)
def test_drawn_changes_have_the_stated_shares_and_correlation(design: Design) -> None:
    draw = np.random.default_rng(0)
    clusters = draw_clusters(design, draw)
    before, after = draw_pair(design, clusters, draw)
    change = after - before
    assert np.mean(change < 0) == pytest.approx(design.lost, rel=0.05)
    assert np.mean(change > 0) == pytest.approx(design.gained, rel=0.05)
    assert np.mean(change) == pytest.approx(design.change, abs=0.004)
    assert len(change) / (clusters[-1] + 1) == pytest.approx(design.cluster_size, rel=0.02)
    sums = np.bincount(clusters, weights=change - change.mean())
    assert np.sum(sums**2) / np.sum((change - change.mean()) ** 2) == pytest.approx(
        design.design_effect, rel=0.1
    )


def test_graded_changes_have_any_size() -> None:
    design = Design(100_000, lost=0.2, gained=0.1, graded=True)
    draw = np.random.default_rng(0)
    before, after = draw_pair(design, draw_clusters(design, draw), draw)
    assert np.mean(after - before) == pytest.approx(-0.05, abs=0.003)
    assert 0.4 < np.mean(np.abs((after - before)[after != before])) < 0.6


def test_a_planted_loss_is_held_and_a_planted_gain_ships() -> None:
    draw = np.random.default_rng(0)
    domain = Design(800, lost=0.05, gained=0.2)
    for general, outcome in (
        (Design(800, lost=0.2, gained=0.05), "HOLD"),
        (Design(800, lost=0.01, gained=0.2), "SHIP"),
    ):
        before, after = draw_evaluation(domain, [general] * 4, draw)
        comparison = compare(before, after, margin=0.02, category_margin=0.05, significance=0.05)
        assert judge(comparison, [], significance=0.05).outcome == outcome
