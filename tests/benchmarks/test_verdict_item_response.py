"""The benchmark's drawn evaluations have the truth they state, and its tests are the verdict's."""

import numpy as np
import pytest

from benchmarks.verdict_batches import batch_of, joined
from benchmarks.verdict_item_response import Design, draw_batches, first_pairs, pool, truth_of
from lmadapt.verdict.statistics import noninferiority_p, paired_change

DESIGNS = (
    Design(300, "four", 0.3),
    Design(300, "giant", 0.1, level="ceiling", harm="shift"),
    Design(300, "few", 0.1, level="floor", harm="gain"),
)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("score", [0, 1])
def test_the_mean_change_is_the_stated_one(design: Design, score: int) -> None:
    change = 0.0 if design.harm == "gain" else -0.03
    batch = draw_batches(design, truth_of(design, score, change), np.random.default_rng(0), 400)[
        score
    ]
    error = float(batch.difference.std() / np.sqrt(400))
    assert batch.difference.mean() == pytest.approx(change, abs=4 * error)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("graded", [True, False])
def test_the_p_values_of_a_batch_are_those_of_a_paired_change(design: Design, graded: bool) -> None:
    truth = truth_of(design, 0, -0.02)
    before, after, clusters = first_pairs(design, truth, np.random.default_rng(1))
    score = 0 if graded else 1
    one = paired_change(before[score], after[score], clusters, 0.05, graded=graded)
    batch = batch_of(before[score][None], after[score][None], np.bincount(clusters), graded=graded)
    assert batch.better_p()[0] == pytest.approx(one.better_p)
    assert batch.worse_p()[0] == pytest.approx(one.worse_p)
    assert batch.p_above(-0.05)[0] == pytest.approx(noninferiority_p(one, 0.05))


def test_categories_are_joined_as_one_set_of_items() -> None:
    design, draw = Design(60, "pairs", 0.1), np.random.default_rng(0)
    truth = truth_of(design, 0, 0.0)
    parts = [first_pairs(design, truth, draw) for _ in range(2)]
    before, after = (np.concatenate([part[n][0] for part in parts]) for n in (0, 1))
    clusters = np.concatenate([parts[0][2], parts[1][2] + 1000])
    batches = [
        batch_of(part[0][:1], part[1][:1], np.bincount(part[2]), graded=True) for part in parts
    ]
    whole = paired_change(before, after, clusters, 0.05, graded=True)
    assert joined(batches).worse_p()[0] == pytest.approx(whole.worse_p)


def test_the_levels_are_near_guessing_in_between_and_nearly_always_right() -> None:
    right = [pool(level, 0.05).before[1].mean() for level in ("floor", "middle", "ceiling")]
    assert right == pytest.approx([0.38, 0.64, 0.97], abs=0.03)
