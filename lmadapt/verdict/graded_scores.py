"""Graded scores of multiple-choice items: how likely a model finds the right choice.

A right or wrong answer keeps one bit of what a model knows about an item. The probability of the
right choice keeps more, so the same certainty needs fewer items.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq

from lmadapt.core.errors import UserError
from lmadapt.verdict.statistics import Array

# Nats a byte. Choices of one item differ by about 0.05 to 2. Below the range a score is right or
# wrong, above it a score is linear in the log-likelihoods, so a wider range changes nothing.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 10.0


def fit_temperature(
    log_likelihoods: Sequence[Sequence[float]],
    sizes: Sequence[Sequence[int]],
    right: Sequence[int],
) -> float:
    """The temperature in nats a byte at which the right choices of all items are likeliest.

    log_likelihoods: of each choice of n items, in nats; sizes: of each choice, in UTF-8 bytes;
    right: (n,), the index of the right choice.

    Maximum likelihood of one parameter, as in the temperature scaling of Guo et al. 2017, of
    softmax(log-likelihood per byte / T). The likelihood is concave in 1 / T, so it has one maximum.
    The result is MIN_TEMPERATURE for a model that is always right, and MAX_TEMPERATURE for one that
    is no better than guessing. Fit it on the reference, and keep it with the exam: models whose
    scores are compared need one temperature.
    Raises UserError for no items, and as `graded_scores` does.
    """
    if not len(right):
        raise UserError(
            "no multiple-choice item was answered, so there is no temperature to fit; at least one "
            "item with choices is needed"
        )
    per_byte, places = _per_byte(log_likelihoods, sizes, right), np.arange(len(right))
    finite = np.where(np.isfinite(per_byte), per_byte, 0.0)
    of_right = finite[places, list(right)]

    def slope(inverse: float) -> float:
        """The derivative of the mean log-likelihood with respect to 1 / T; it falls with 1 / T."""
        expected = np.sum(_softmax(per_byte * inverse) * finite, axis=1)
        return float(np.mean(of_right - expected))

    coldest, hottest = 1 / MIN_TEMPERATURE, 1 / MAX_TEMPERATURE
    if slope(hottest) <= 0:
        return MAX_TEMPERATURE
    if slope(coldest) >= 0:
        return MIN_TEMPERATURE
    return 1 / float(brentq(slope, hottest, coldest))


def graded_scores(
    log_likelihoods: Sequence[Sequence[float]],
    sizes: Sequence[Sequence[int]],
    right: Sequence[int],
    temperature: float,
) -> Array:
    """The probability of the right choice of each item, (n,), from 0 to 1.

    It is softmax(log-likelihood per byte / temperature); a model without knowledge has 1 over the
    number of choices on average. The arguments are those of `fit_temperature`, with its result.
    Raises UserError when an item has no choices, not one size for each, an empty choice, a
    log-likelihood that is no finite number, or a right choice that it does not have.
    """
    if not len(right):
        return np.zeros(0)
    per_byte = _per_byte(log_likelihoods, sizes, right)
    probabilities = _softmax(per_byte / temperature)
    return np.asarray(probabilities[np.arange(len(right)), list(right)])


def translated_margin(
    margin: float, *, accuracy: float, graded: float, chance: float
) -> float | None:
    """What a loss of `margin` in accuracy is in graded scores, on the reference's items.

    accuracy, graded, chance: means over the same items of the reference's right answers, of its
    graded scores, and of what guessing scores (1 over the number of choices).

    Suppose a model loses a share s of what the reference knows: it guesses on these items, and
    answers the rest as before. On an item that it guesses, both scores have the mean `chance`. So
    accuracy falls by s (accuracy - chance), the graded mean by s (graded - chance), and a margin
    m allows s = m / (accuracy - chance). The result is s (graded - chance).

    None where this share is not defined or above 1, because the reference is not above chance by
    the margin: `accuracy - chance < margin`, or `graded <= chance`. No loss of that size could be
    seen there.
    Raises UserError unless the margin is above 0.
    """
    if not margin > 0:
        raise UserError(f"a margin of {margin} cannot be translated; allowed: above 0")
    if accuracy - chance < margin or graded <= chance:
        return None
    return margin * (graded - chance) / (accuracy - chance)


def _per_byte(
    log_likelihoods: Sequence[Sequence[float]],
    sizes: Sequence[Sequence[int]],
    right: Sequence[int],
) -> Array:
    """Log-likelihoods in nats a byte, (n, most choices); -inf where an item has fewer choices."""
    counts = np.array([len(values) for values in log_likelihoods])
    _require_choices(counts, np.array([len(values) for values in sizes]), np.array(right))
    inside = np.arange(counts.max()) < counts[:, None]
    nats, sizes_in_bytes = np.full(inside.shape, -np.inf), np.ones(inside.shape)
    nats[inside] = np.concatenate([np.asarray(values, float) for values in log_likelihoods])
    sizes_in_bytes[inside] = np.concatenate([np.asarray(values, float) for values in sizes])
    wrong = inside & ~(np.isfinite(nats) & (sizes_in_bytes > 0))
    if wrong.any():
        item, choice = np.argwhere(wrong)[0].tolist()
        raise UserError(
            f"choice {choice} of multiple-choice item {item} (from 0) has the log-likelihood "
            f"{nats[item, choice]} and {sizes_in_bytes[item, choice]:.0f} bytes; allowed: a finite "
            "number, and at least 1 byte"
        )
    return nats / sizes_in_bytes


def _require_choices(counts: Array, sized: Array, right: Array) -> None:
    if not len(counts) == len(sized) == len(right):
        raise UserError(
            f"{len(counts)} items have log-likelihoods, {len(sized)} have sizes and {len(right)} "
            "have a right choice; every item needs all three"
        )
    wrong = (counts < 1) | (counts != sized) | (right < 0) | (right >= counts)
    if wrong.any():
        item = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"multiple-choice item {item} (from 0) has {counts[item]} log-likelihoods and "
            f"{sized[item]} sizes, and choice {right[item]} is right; needed: one of each for "
            "every choice, and a right choice among them"
        )


def _softmax(values: Array) -> Array:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
