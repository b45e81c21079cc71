import errno
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer, TrainerCallback

from lmadapt.core.errors import Interrupted
from lmadapt.training import checkpoints
from lmadapt.training.loop import train
from tests.training.small_training import (
    SETTINGS,
    random_rows,
    same_tensors,
    trainable_tensors,
    with_adapter,
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_stops_training_after_the_current_step_and_a_second_run_ends_in_the_same_adapter(
    number: int, code: int, tiny_model: Path, tmp_path: Path
) -> None:
    class Signalled(TrainerCallback):
        def on_substep_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step == 2:
                os.kill(os.getpid(), number)

    models = [with_adapter(tiny_model) for _ in range(3)]
    whole = train(models[0], random_rows(), SETTINGS, checkpoints=tmp_path / "whole")
    before = signal.getsignal(number)
    with pytest.raises(
        Interrupted, match=r"stopped training after step 3 of \d+; run it again"
    ) as stopped:
        train(
            models[1],
            random_rows(),
            SETTINGS,
            checkpoints=tmp_path / "cut",
            callbacks=[Signalled()],
        )
    assert stopped.value.exit_code == code
    assert signal.getsignal(number) == before
    assert [folder.name for folder in (tmp_path / "cut").iterdir()] == ["checkpoint-3"]
    assert train(models[2], random_rows(), SETTINGS, checkpoints=tmp_path / "cut") == whole
    assert same_tensors(trainable_tensors(models[2]), trainable_tensors(models[0]))


def test_checkpoints_are_written_by_time_and_on_request_and_one_is_kept(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written: dict[str, list[int]] = {}

    class Noted(TrainerCallback):
        def __init__(self, name: str) -> None:
            self.steps = written.setdefault(name, [])

        def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if args.output_dir == "asked" and state.global_step == 1:
                checkpoints.CHECKPOINT_NOW.parent.mkdir()
                checkpoints.CHECKPOINT_NOW.touch()

        def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.steps.append(state.global_step)
            assert [folder.name for folder in Path(args.output_dir).iterdir()] == [
                f"checkpoint-{state.global_step}"
            ]

    for name, minutes in (("always", 0.0), ("asked", 5.0)):
        settings = replace(SETTINGS, checkpoint_minutes=minutes)
        model, rows = with_adapter(tiny_model), random_rows()
        result = train(model, rows, settings, checkpoints=Path(name), callbacks=[Noted(name)])
        steps = len(result.steps)
    assert written == {"always": list(range(1, steps)), "asked": [2]}
    assert not checkpoints.CHECKPOINT_NOW.exists()


def test_a_full_disk_neither_stops_training_nor_removes_the_older_checkpoint(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save = Trainer.save_model

    def until_full(self: Trainer, *arguments: Any, **options: Any) -> None:
        save(self, *arguments, **options)
        if self.state.global_step > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    models = [with_adapter(tiny_model) for _ in range(2)]
    whole = train(models[0], random_rows(), SETTINGS, checkpoints=tmp_path / "whole")
    monkeypatch.setattr(Trainer, "save_model", until_full)
    settings = replace(SETTINGS, checkpoint_minutes=0.0)
    assert train(models[1], random_rows(), settings, checkpoints=tmp_path / "full") == whole
    assert [folder.name for folder in (tmp_path / "full").iterdir()] == ["checkpoint-2"]
    assert "step 3: no checkpoint was written, training continues" in caplog.text
    assert same_tensors(trainable_tensors(models[1]), trainable_tensors(models[0]))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("adapter_model.safetensors", lambda file: os.truncate(file, file.stat().st_size // 2)),
        ("optimizer.pt", lambda file: os.truncate(file, 0)),
        ("rng_state.pth", Path.unlink),
    ],
)
def test_a_broken_checkpoint_is_skipped_with_a_warning_and_the_result_is_the_same(
    file: str, damage: Any, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Told(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    models = [with_adapter(tiny_model) for _ in range(3)]
    whole = train(models[0], random_rows(), SETTINGS, checkpoints=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(models[1], random_rows(), SETTINGS, checkpoints=tmp_path / "cut", callbacks=[Told()])
    damage(tmp_path / "cut" / "checkpoint-3" / file)
    assert train(models[2], random_rows(), SETTINGS, checkpoints=tmp_path / "cut") == whole
    assert "checkpoint-3 is not whole" in caplog.text
    assert same_tensors(trainable_tensors(models[2]), trainable_tensors(models[0]))
