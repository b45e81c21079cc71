import math
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import TrainerCallback

from lmadapt.core.errors import Interrupted, UserError
from lmadapt.core.tables import HELDOUT, read_table
from lmadapt.models.loading import load_bf16, load_nf4, load_tokenizer
from lmadapt.training.adapters import add_lora
from lmadapt.training.heldout import Heldout, overfits, step_to_keep, stop_reason
from lmadapt.training.loop import train
from lmadapt.training.packing import PackedRow, pack
from lmadapt.training.params import HeldoutParams
from lmadapt.training.result import TrainingResult
from tests.tables import write_heldout
from tests.training.small_training import (
    SETTINGS,
    random_examples,
    random_rows,
    same_tensors,
    trainable_tensors,
    with_adapter,
)

PARAMS: dict[str, Any] = {
    "heldout_every_steps": 2,
    "heldout_tokens": 500,
    "keep": "last",
    "patience": None,
    "retention_budget_bits_per_byte": None,
}


def heldout(model: Path, folder: Path, **changed: Any) -> Heldout:
    documents = read_table(write_heldout(folder), HELDOUT).to_pylist()
    return Heldout(HeldoutParams(**PARAMS | changed), documents, load_tokenizer(model), seed=0)


def scored(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [
        {"step": 2 * n, "heldout_domain": d, "heldout_general": g}
        for n, (d, g) in enumerate(values)
    ]


def run(
    model: Any,
    folder: Path,
    watched: Heldout | None,
    rows: list[PackedRow] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    **settings: Any,
) -> TrainingResult:
    return train(
        model,
        rows or random_rows(),
        replace(SETTINGS, **settings),
        checkpoints=folder,
        heldout=watched,
        callbacks=callbacks,
    )


def learned_by_heart() -> list[PackedRow]:
    """The rows of two examples, repeated twelve times."""
    return pack(random_examples(2) * 12, max_tokens=64, rows_per_step=2)


class Kept(TrainerCallback):
    """The trainable weights after each step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        self.weights[state.global_step] = trainable_tensors(model)


@pytest.mark.parametrize("load", [load_nf4, load_bf16])
def test_scoring_during_training_leaves_the_adapter_bit_identical(
    load: Any, tiny_model: Path, tmp_path: Path
) -> None:
    models = [add_lora(load(tiny_model), rank=2, alpha=4, dropout=0.1, seed=0) for _ in range(2)]
    plain = run(models[0], tmp_path / "plain", None)
    watched = run(
        models[1], tmp_path / "watched", heldout(tiny_model, tmp_path, heldout_every_steps=1)
    )
    assert same_tensors(*map(trainable_tensors, models))
    assert plain.steps == watched.steps
    assert [one["step"] for one in watched.heldout] == list(range(len(plain.steps) + 1))
    assert watched.heldout[0]["heldout_domain"] != watched.heldout[-1]["heldout_domain"]


def test_bits_per_byte_equal_those_from_the_logits_of_the_model(
    tiny_model: Path, tmp_path: Path
) -> None:
    found = run(with_adapter(tiny_model), tmp_path / "run", heldout(tiny_model, tmp_path)).heldout[
        0
    ]
    model, tokenizer = load_bf16(tiny_model), load_tokenizer(tiny_model)
    for group in ("domain", "general"):
        nats = size = 0.0
        for text in read_table(tmp_path / "heldout.parquet", HELDOUT).to_pylist():
            if text["group"] == group:
                ids = tokenizer(text["text"], add_special_tokens=False)["input_ids"]
                output = model(input_ids=torch.tensor([[tokenizer.bos_token_id, *ids]]))
                logits = output.logits[0, :-1].float()
                nats += float(
                    torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum")
                )
                size += len(text["text"].encode())
        assert found[f"heldout_{group}"] == pytest.approx(nats / math.log(2) / size, rel=2e-3)


def test_at_most_heldout_tokens_are_scored(tiny_model: Path, tmp_path: Path) -> None:
    watched = heldout(tiny_model, tmp_path, heldout_tokens=60)
    for windows in watched.windows.values():
        assert 0 < sum(len(window.continuations[0]) for window in windows) <= 60


@pytest.mark.parametrize(
    ("changed", "evaluations", "expected"),
    [
        ({}, [(3, 1), (2, 1), (4, 9)], ("", None)),
        ({"keep": "best"}, [(3, 1), (2, 1), (1, 1), (4, 1)], ("", 4)),
        # The start is no result of a training:
        ({"keep": "best"}, [(1, 1), (3, 1), (2, 1)], ("", 4)),
        ({"patience": 2}, [(3, 1), (2, 1), (2.5, 1)], ("", None)),
        (
            {"patience": 2},
            [(3, 1), (2, 1), (2.5, 1), (2, 1)],
            ("not got better in 2 evaluations", None),
        ),
        (
            {"patience": 2, "keep": "best"},
            [(3, 1), (2, 1), (2.5, 1), (2.5, 1)],
            ("not got better in 2", 2),
        ),
        ({"retention_budget_bits_per_byte": 0.5}, [(3, 1), (2, 1.5), (1, 0.9)], ("", None)),
        (
            {"retention_budget_bits_per_byte": 0.5},
            [(3, 1), (4, 1.2), (2, 1.6)],
            ("0.6000 bits per byte more", 2),
        ),
        (
            {"retention_budget_bits_per_byte": 0.5},
            [(3, 1), (2, 1.6)],
            ("0.6000 bits per byte more", 0),
        ),
        (
            {"retention_budget_bits_per_byte": 0.5, "keep": "best"},
            [(9, 1), (2, 1.2), (3, 1.3), (1, 1.6)],
            ("0.6000 bits per byte more", 2),
        ),
    ],
)
def test_when_to_stop_and_what_to_keep_follow_from_the_evaluations(
    changed: dict[str, Any],
    evaluations: list[tuple[float, float]],
    expected: tuple[str, int | None],
) -> None:
    params = HeldoutParams(**PARAMS | changed)
    reason = stop_reason(params, scored(*evaluations))
    assert step_to_keep(params, scored(*evaluations)) == expected[1]
    assert expected[0] in reason
    assert bool(reason) == bool(expected[0])


@pytest.mark.parametrize("key", ["keep", "patience", "retention_budget_bits_per_byte"])
def test_decisions_by_held_out_text_need_scores(key: str) -> None:
    changed = {"keep": "best", "patience": 2, "retention_budget_bits_per_byte": 0.1}
    with pytest.raises(ValidationError, match="heldout_every_steps must be at least 1"):
        HeldoutParams(**PARAMS | {"heldout_every_steps": 0, key: changed[key]})


def test_best_keeps_the_weights_of_the_best_evaluation(tiny_model: Path, tmp_path: Path) -> None:
    kept = Kept()
    model = with_adapter(tiny_model)
    watched = heldout(tiny_model, tmp_path, heldout_every_steps=1, keep="best")
    result = run(
        model, tmp_path / "run", watched, learned_by_heart(), learning_rate=0.03, callbacks=[kept]
    )
    best = min(result.heldout[1:], key=lambda one: one["heldout_domain"])["step"]
    assert result.kept_step == best < len(result.steps)
    assert same_tensors(trainable_tensors(model), kept.weights[best])


def test_training_stops_at_the_budget_and_keeps_the_last_weights_within_it(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, model = Kept(), with_adapter(tiny_model)
    free = run(
        with_adapter(tiny_model),
        tmp_path / "free",
        heldout(tiny_model, tmp_path),
        learning_rate=0.1,
    )
    rises = [one["heldout_general"] - free.heldout[0]["heldout_general"] for one in free.heldout]
    place = next(n for n, rise in enumerate(rises) if n > 1 and rise > max(rises[:n]))
    budget = max(rises[:place]) + 1e-9
    watched = heldout(tiny_model, tmp_path, retention_budget_bits_per_byte=budget)
    result = run(model, tmp_path / "run", watched, learning_rate=0.1, callbacks=[kept])
    assert len(result.steps) == 2 * place < len(free.steps)
    assert result.kept_step == 2 * (place - 1)
    assert same_tensors(trainable_tensors(model), kept.weights[result.kept_step])
    assert f"step {2 * place}: training stops here: general text takes" in caplog.text
    rows = random_rows()[: 2 * len(result.steps)]
    assert result.tokens == sum(len(row["input_ids"]) for row in rows)


@pytest.mark.parametrize(
    "changed", [{"keep": "best"}, {"patience": 2}, {"retention_budget_bits_per_byte": 0.0}]
)
def test_training_interrupted_at_any_step_ends_with_the_same_weights(
    changed: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    class Told(TrainerCallback):
        def __init__(self, step: int) -> None:
            self.step = step

        def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step == self.step:
                os.kill(os.getpid(), signal.SIGTERM)

    whole = with_adapter(tiny_model)

    def trained(model: Any, folder: Path, *callbacks: TrainerCallback) -> TrainingResult:
        watched = heldout(tiny_model, tmp_path, **{"heldout_every_steps": 1, **changed})
        settings: dict[str, Any] = {"learning_rate": 0.03, "checkpoint_minutes": 0.0}
        return run(model, folder, watched, learned_by_heart(), callbacks, **settings)

    expected = trained(whole, tmp_path / "whole")
    for step in range(1, len(expected.steps) - 1, 3):
        folder = tmp_path / f"cut-{step}"
        with pytest.raises(Interrupted):
            trained(with_adapter(tiny_model), folder, Told(step))
        model = with_adapter(tiny_model)
        assert trained(model, folder) == expected
        assert same_tensors(trainable_tensors(model), trainable_tensors(whole))


def test_only_weights_that_a_decision_can_return_to_are_on_the_disk(
    tiny_model: Path, tmp_path: Path
) -> None:
    class Count(TrainerCallback):
        most = 0

        def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.most = max(self.most, len(list(tmp_path.glob("run/kept-*"))))

    count, watched = Count(), heldout(tiny_model, tmp_path, heldout_every_steps=1, keep="best")
    run(
        with_adapter(tiny_model),
        tmp_path / "run",
        watched,
        checkpoint_minutes=0.0,
        callbacks=[count],
    )
    assert count.most in {1, 2}


def test_weights_that_cannot_be_written_stop_training_and_the_error_says_what_to_do(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("lmadapt.training.heldout.save_file", full)
    with pytest.raises(
        UserError, match=r"kept-2\.safetensors.*no space left.*make room and run it again"
    ):
        run(with_adapter(tiny_model), tmp_path / "run", heldout(tiny_model, tmp_path, keep="best"))


def test_missing_held_out_text_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    documents = [
        row
        for row in read_table(write_heldout(tmp_path), HELDOUT).to_pylist()
        if row["group"] == "domain"
    ]
    tokenizer = load_tokenizer(tiny_model)
    assert Heldout(HeldoutParams(**PARAMS), documents, tokenizer, seed=0).windows["general"] == []
    budget = HeldoutParams(**PARAMS | {"retention_budget_bits_per_byte": 0.1})
    with pytest.raises(UserError, match="no held-out general text of at most 500 tokens"):
        Heldout(budget, documents, tokenizer, seed=0)


def test_a_loss_that_falls_while_held_out_text_gets_worse_is_overfitting() -> None:
    def history(heldout: list[float], losses: list[float]) -> list[dict[str, float]]:
        entries: list[dict[str, float]] = [{"step": 0, "heldout_domain": heldout[0]}]
        for step, loss in enumerate(losses, 1):
            entries += [
                {"step": step, "loss": 9.0, "domain": loss},
                {"step": step, "heldout_domain": heldout[step]},
            ]
        return entries

    assert overfits(history([3, 1, 2, 2.5], [3, 2, 1]))
    assert not overfits(history([3, 1, 2, 1.5], [3, 2, 1]))  # got better again
    assert not overfits(history([3, 1, 2, 2.5], [3, 1, 2]))  # the loss got worse as well
    assert not overfits(history([1, 2], [3]))  # one evaluation says little


def test_overfitting_gives_a_warning(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = heldout(tiny_model, tmp_path, heldout_every_steps=2)
    run(with_adapter(tiny_model), tmp_path / "run", watched, learned_by_heart(), learning_rate=0.03)
    assert "the model learns its texts by heart" in caplog.text
