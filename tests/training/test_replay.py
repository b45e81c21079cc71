import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmadapt.core.errors import UserError
from lmadapt.models.chat import IGNORED, Encoded
from lmadapt.training.replay import Document, Mixture, mix_replay

DOMAIN, REPLAY = 10, 99


def _documents(
    count: int, token: int, *, seed: int = 0, low: int = 4, high: int = 30
) -> list[Document]:
    """Documents whose tokens all are `token`; the first half of each carries no loss."""
    lengths = np.random.default_rng(seed).integers(low, high, count)
    return [
        [Encoded([token] * n, [IGNORED] * (n // 2) + [token] * (n - n // 2))]
        for n in lengths.tolist()
    ]


def _replay_of(source: str, *, count: int, seed: int) -> list[Document]:
    documents = _documents(count, REPLAY, seed=seed)
    return [[replace(document[0], source=source)] for document in documents]


def _share(examples: list[Encoded]) -> float:
    loss_tokens = [example.loss_tokens for example in examples]
    replayed = [example.loss_tokens for example in examples if example.input_ids[0] == REPLAY]
    return sum(replayed) / sum(loss_tokens)


def _mix(
    fraction: float = 0.1,
    max_tokens: int = 4000,
    seed: int = 0,
    replay: int = 200,
    domain: int = 100,
) -> Mixture:
    return mix_replay(
        _documents(domain, DOMAIN),
        _documents(replay, REPLAY, seed=1),
        fraction=fraction,
        max_tokens=max_tokens,
        seed=seed,
    )


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.6), st.integers(3000, 8000), st.integers(0, 5))
def test_the_share_of_loss_bearing_tokens_is_met_within_one_percent(
    fraction: float, budget: int, seed: int
) -> None:
    mixture = _mix(fraction, budget, seed, replay=600)
    assert abs(_share(mixture.examples) - fraction) < 0.01
    assert mixture.fraction_met == _share(mixture.examples)
    assert budget - 30 < sum(len(example.input_ids) for example in mixture.examples) <= budget


def test_replay_is_spread_evenly() -> None:
    examples = _mix(0.2, 8000).examples
    quarters = [examples[i * len(examples) // 4 : (i + 1) * len(examples) // 4] for i in range(4)]
    assert all(abs(_share(quarter) - 0.2) < 0.02 for quarter in quarters)


def test_a_shortfall_gives_a_warning_shows_in_the_metrics_and_is_spread_evenly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        mixture = _mix(0.5, 6000, replay=40)
    replay = mixture.metrics()["replay"]
    assert replay["fraction_asked"] == 0.5
    assert replay["fraction_met"] < 0.15
    assert replay["loss_tokens_used"] > 0.95 * replay["loss_tokens_available"]
    assert "replay_fraction 0.5 is not met" in caplog.text
    half = len(mixture.examples) // 2
    assert abs(_share(mixture.examples[:half]) - _share(mixture.examples[half:])) < 0.02


def test_replay_never_repeats_and_domain_data_repeats_to_fill_the_budget() -> None:
    mixture = _mix(0.5, 6000, replay=40, domain=20)
    replayed = [id(example) for example in mixture.examples if example.input_ids[0] == REPLAY]
    assert len(replayed) == len(set(replayed))
    metrics = mixture.metrics()["domain"]
    assert metrics["epochs"] == round(metrics["tokens_used"] / metrics["tokens_available"], 4) > 5
    assert metrics["documents_used"] == 20


def test_data_beyond_the_budget_are_a_seeded_subset_and_counted() -> None:
    first, second = _mix(0.0, 500), _mix(0.0, 500, seed=1)
    counts = first.metrics()["domain"]
    assert counts["documents_used"] == len(first.examples) < counts["documents_available"] == 100
    assert counts["epochs"] < 1
    assert [len(e.input_ids) for e in first.examples] != [len(e.input_ids) for e in second.examples]


def test_sources_share_replay_by_their_weights() -> None:
    replay = _replay_of("facts", count=200, seed=1)
    replay += _replay_of("talk", count=200, seed=2)
    replay += _replay_of("unused", count=200, seed=3)
    weights = {"facts": 3.0, "talk": 1.0}
    mixture = mix_replay(
        _documents(100, DOMAIN), replay, fraction=0.3, max_tokens=6000, seed=0, weights=weights
    )
    drawn = mixture.metrics()["replay"]["loss_tokens_by_source"]
    assert mixture.fraction_met == pytest.approx(0.3, abs=0.01)
    assert drawn.keys() == weights.keys()
    assert drawn["facts"] / sum(drawn.values()) == pytest.approx(0.75, abs=0.02)


def test_a_source_that_runs_out_leaves_its_share_to_the_others() -> None:
    few = _replay_of("few", count=5, seed=5)
    replay = few + _replay_of("many", count=200, seed=200)
    options: dict[str, Any] = {"fraction": 0.3, "max_tokens": 6000, "seed": 0}
    mixture = mix_replay(
        _documents(100, DOMAIN), replay, weights={"few": 1.0, "many": 1.0}, **options
    )
    drawn = mixture.metrics()["replay"]["loss_tokens_by_source"]
    assert drawn["few"] == sum(document[0].loss_tokens for document in few)
    assert mixture.fraction_met == pytest.approx(0.3, abs=0.01)


def test_a_weight_for_an_unknown_source_is_an_error() -> None:
    replay = _replay_of("few", count=5, seed=5) + _replay_of("many", count=5, seed=6)
    options: dict[str, Any] = {"fraction": 0.3, "max_tokens": 6000, "seed": 0}
    with pytest.raises(UserError, match=r"replay_weights names fewer; the sources are few, many"):
        mix_replay(_documents(9, DOMAIN), replay, weights={"fewer": 1.0}, **options)


def test_replayed_examples_are_marked() -> None:
    assert all(example.replayed == (example.input_ids[0] == REPLAY) for example in _mix().examples)


def test_the_same_seed_gives_the_same_mixture() -> None:
    assert _mix().examples == _mix().examples


def test_fraction_zero_uses_no_replay() -> None:
    assert all(example.input_ids[0] == DOMAIN for example in _mix(0.0).examples)


def test_the_error_for_replay_without_general_data_names_the_key_and_the_choices() -> None:
    with pytest.raises(
        UserError, match=r"replay_fraction is 0\.1.*fetch\.sources.*set replay_fraction to 0"
    ):
        _mix(0.1, replay=0)


def test_no_domain_data_is_an_error() -> None:
    with pytest.raises(UserError, match="no domain data"):
        _mix(domain=0)


def test_a_budget_below_one_example_is_an_error() -> None:
    with pytest.raises(UserError, match="max_tokens is 3"):
        _mix(max_tokens=3)
