"""The learning rate of each step, as a share of `learning_rate`."""

import math

from lmadapt.training.params import Schedule


def lr_factor(
    step: int,
    steps: int,
    *,
    schedule: Schedule,
    warmup_fraction: float,
    decay_fraction: float = 0.2,
) -> float:
    """Share of the learning rate in step `step` (from 0) of `steps`.

    After a linear warm-up over `warmup_fraction` of the steps, `constant` stays at 1 and `cosine`
    falls to 0. `wsd` (warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395) stays at 1 until
    the last `decay_fraction` of the steps, where it falls as 1 - sqrt to 0 (Hägele et al. 2024,
    arXiv 2405.18392). Unlike transformers' schedules, the warm-up starts above 0: where a training
    has a dozen steps, a first step with rate 0 is wasted.
    """
    warmup = math.ceil(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "wsd":
        decay = max(1, math.ceil(steps * decay_fraction))
        return 1 - math.sqrt(max(0, step - (steps - decay)) / decay)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
