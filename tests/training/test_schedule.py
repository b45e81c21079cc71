import itertools
import math

import pytest

from lmadapt.training.schedule import lr_factor


def test_warm_up_starts_above_zero_and_cosine_ends_near_it() -> None:
    factors = [lr_factor(step, 20, schedule="cosine", warmup_fraction=0.2) for step in range(20)]
    assert factors[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[4:]))
    assert 0 < factors[-1] < 0.02
    assert lr_factor(19, 20, schedule="constant", warmup_fraction=0.2) == 1.0


def test_wsd_is_constant_until_its_decay_and_falls_as_one_less_the_root() -> None:
    factors = [
        lr_factor(n, 20, schedule="wsd", warmup_fraction=0.1, decay_fraction=0.2) for n in range(20)
    ]
    assert factors[:2] == pytest.approx([1 / 3, 2 / 3])
    assert factors[2:17] == [1.0] * 15
    assert factors[16:] == pytest.approx([1 - math.sqrt(n / 4) for n in range(4)])
