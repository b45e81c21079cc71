import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from lmadapt.core.errors import UserError
from lmadapt.verdict.graded_scores import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    fit_temperature,
    graded_scores,
    translated_margin,
)

CASES = range(5)
Drawn = tuple[list[list[float]], list[list[int]], list[int]]


def drawn_items(seed: int, *, items: int = 300, skill: float = 0.3) -> Drawn:
    """Items of two to five choices, the right one of which is likelier by `skill` nats a byte."""
    draw = np.random.default_rng(seed)
    likelihoods, sizes, right = [], [], []
    for _ in range(items):
        count = int(draw.integers(2, 6))
        bytes_of_each = draw.integers(3, 60, count)
        place = int(draw.integers(count))
        per_byte = draw.normal(-1, 0.3, count) + skill * (np.arange(count) == place)
        likelihoods.append((per_byte * bytes_of_each).tolist())
        sizes.append(bytes_of_each.tolist())
        right.append(place)
    return likelihoods, sizes, right


def test_a_score_is_the_softmax_of_log_likelihoods_per_byte() -> None:
    scores = graded_scores([[-2.0, -6.0], [-3.0, -3.0, -3.0]], [[4, 6], [3, 3, 3]], [0, 2], 0.5)
    assert scores == pytest.approx([1 / (1 + np.exp(-1)), 1 / 3])


def test_a_byte_is_counted_and_not_a_choice() -> None:
    short, long = graded_scores([[-1.0, -10.0]] * 2, [[1, 10]] * 2, [0, 1], 0.2)
    assert (short, long) == (pytest.approx(0.5), pytest.approx(0.5))


@pytest.mark.parametrize("seed", CASES)
def test_the_temperature_makes_the_right_choices_likeliest(seed: int) -> None:
    likelihoods, sizes, right = drawn_items(seed, items=100)

    def unlikelihood(logarithm: float) -> float:
        total = 0.0
        for values, size, place in zip(likelihoods, sizes, right, strict=True):
            per_byte = np.array(values) / np.array(size)
            total -= log_softmax(per_byte / np.exp(logarithm))[place]
        return total

    best = minimize_scalar(unlikelihood, bounds=np.log([0.01, 10]), method="bounded")
    assert fit_temperature(likelihoods, sizes, right) == pytest.approx(np.exp(best.x), rel=1e-3)


def test_the_temperature_does_not_depend_on_the_order_of_items_or_choices() -> None:
    likelihoods, sizes, right = drawn_items(1)
    mirrored = [len(values) - 1 - place for values, place in zip(likelihoods, right, strict=True)]
    turned = fit_temperature(
        [values[::-1] for values in likelihoods[::-1]],
        [values[::-1] for values in sizes[::-1]],
        mirrored[::-1],
    )
    assert turned == pytest.approx(fit_temperature(likelihoods, sizes, right))


def test_the_temperature_is_bounded_where_no_maximum_exists() -> None:
    likelihoods, sizes = [[-1.0, -2.0]] * 3, [[1, 1]] * 3
    assert fit_temperature(likelihoods, sizes, [0, 0, 0]) == MIN_TEMPERATURE
    assert fit_temperature(likelihoods, sizes, [1, 1, 1]) == MAX_TEMPERATURE
    assert fit_temperature([[-5.0]], [[3]], [0]) == MAX_TEMPERATURE  # nothing to choose


@pytest.mark.parametrize("skill", [0.1, 0.6])
def test_fitted_scores_are_calibrated_where_the_reference_is_right(skill: float) -> None:
    """The mean probability given to the preferred choice is about the share of right answers."""
    likelihoods, sizes, right = drawn_items(0, items=3000, skill=skill)
    temperature = fit_temperature(likelihoods, sizes, right)
    preferred = [
        int(np.argmax(np.array(values) / np.array(size)))
        for values, size in zip(likelihoods, sizes, strict=True)
    ]
    accuracy = float(np.mean(np.array(preferred) == np.array(right)))
    confidence = graded_scores(likelihoods, sizes, preferred, temperature)
    assert float(confidence.mean()) == pytest.approx(accuracy, abs=0.03)


def test_a_model_that_does_not_know_scores_chance_on_average() -> None:
    likelihoods, sizes, right = drawn_items(0, items=4000, skill=0.0)
    chance = float(np.mean([1 / len(values) for values in likelihoods]))
    assert graded_scores(likelihoods, sizes, right, 0.2).mean() == pytest.approx(chance, abs=0.01)


def test_a_huge_log_likelihood_leaves_a_number() -> None:
    scores = graded_scores([[-1e6, -1.0], [-1.0, -1e6]], [[1, 1]] * 2, [0, 0], 0.01)
    assert scores.tolist() == [0.0, 1.0]


def test_no_items_have_no_scores_and_no_temperature() -> None:
    assert graded_scores([], [], [], 1.0).shape == (0,)
    with pytest.raises(UserError, match="no multiple-choice item was answered"):
        fit_temperature([], [], [])


@pytest.mark.parametrize(
    ("likelihoods", "sizes", "right", "message"),
    [
        ([[-1.0]], [[1], [1]], [0], "1 items have log-likelihoods, 2 have sizes"),
        ([[-1.0, -2.0]], [[1]], [0], "item 0 .* has 2 log-likelihoods and 1 sizes"),
        ([[-1.0], []], [[1], []], [0, 0], "item 1 .* has 0 log-likelihoods"),
        ([[-1.0, -2.0]], [[1, 1]], [2], "choice 2 is right"),
        ([[-1.0, float("nan")]], [[1, 1]], [0], "choice 1 of multiple-choice item 0 .* nan"),
        ([[-1.0, -2.0]], [[1, 0]], [0], "choice 1 .* 0 bytes"),
    ],
)
def test_an_item_that_cannot_be_scored_is_named(
    likelihoods: list[list[float]], sizes: list[list[int]], right: list[int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        graded_scores(likelihoods, sizes, right, 1.0)


def test_a_margin_is_the_same_share_of_knowledge_in_both_scores() -> None:
    margin = translated_margin(0.05, accuracy=0.65, graded=0.5, chance=0.25)
    assert margin == pytest.approx(0.05 / 0.4 * 0.25)


def test_a_model_that_guesses_a_share_of_the_items_loses_the_margin_in_both_scores() -> None:
    items, share = 6000, 0.5
    likelihoods, sizes, right = drawn_items(3, items=items)
    guessed, *_ = drawn_items(3, items=items, skill=0.0)
    temperature = fit_temperature(likelihoods, sizes, right)
    lost = np.random.default_rng(0).random(items) < share
    before, knowing_nothing = (
        graded_scores(values, sizes, right, temperature) for values in (likelihoods, guessed)
    )
    right_before, right_guessed = (
        np.array([_is_right(*item) for item in zip(values, sizes, right, strict=True)])
        for values in (likelihoods, guessed)
    )
    chance = float(np.mean([1 / len(values) for values in sizes]))
    loss = float(np.mean(np.where(lost, right_before - right_guessed, 0)))
    graded_loss = float(np.mean(np.where(lost, before - knowing_nothing, 0)))
    translated = translated_margin(
        loss, accuracy=float(right_before.mean()), graded=float(before.mean()), chance=chance
    )
    assert graded_loss == pytest.approx(translated, rel=0.05)


def _is_right(values: list[float], sizes: list[int], place: int) -> float:
    return float(np.argmax(np.array(values) / np.array(sizes)) == place)


def test_a_margin_is_not_defined_where_the_reference_is_not_above_chance_by_it() -> None:
    assert translated_margin(0.05, accuracy=0.29, graded=0.27, chance=0.25) is None
    assert translated_margin(0.05, accuracy=0.40, graded=0.25, chance=0.25) is None
    assert translated_margin(0.05, accuracy=0.31, graded=0.28, chance=0.25) is not None


def test_a_margin_of_zero_cannot_be_translated() -> None:
    with pytest.raises(UserError, match="a margin of 0 cannot be translated"):
        translated_margin(0, accuracy=0.5, graded=0.5, chance=0.25)
