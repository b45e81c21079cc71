import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from lmadapt.training import progress
from lmadapt.training.progress import ProgressReport

STEP_TOKENS = [100, 200, 300, 400]


def trainer_state(step: int) -> Any:
    return SimpleNamespace(global_step=step, is_world_process_zero=True)


def finish_step(report: ProgressReport, state: Any) -> None:
    """What the Trainer calls at the end of a step, in its order."""
    report.on_step_end(None, state, None)
    report.on_log(None, state, None, logs={"loss": 1 / state.global_step})


def run(report: ProgressReport, *, first_step: int = 0) -> None:
    report.on_train_begin(None, trainer_state(first_step), None)
    for step in range(first_step + 1, len(STEP_TOKENS) + 1):
        finish_step(report, trainer_state(step))
    report.on_train_end(None, trainer_state(len(STEP_TOKENS)), None)
    report.stop()


def test_a_log_file_gets_a_line_at_the_end_of_a_short_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(ProgressReport(STEP_TOKENS))
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"training: step 4 of 4, 1,000 of 1,000 tokens, [\d,]+ tokens/s, loss 0\.250, 0:00:00 left",
        line,
    )


def test_a_log_file_gets_a_line_whenever_the_interval_is_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    run(ProgressReport(STEP_TOKENS))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines[:4]] == [
        f"training: step {step} of 4" for step in range(1, 5)
    ]


def test_speed_and_time_left_after_a_resume_come_from_the_new_run_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    report = ProgressReport(STEP_TOKENS)
    report.on_train_begin(None, trainer_state(2), None)
    clock.now = 40.0
    finish_step(report, trainer_state(3))
    line = capsys.readouterr().err
    assert "step 3 of 4, 600 of 1,000 tokens, 8 tokens/s, loss 0.333, 0:00:53 left" in line


def test_a_terminal_gets_a_bar_with_the_same_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    run(ProgressReport(STEP_TOKENS))
    shown = capsys.readouterr().err
    assert "step 4 of 4, 1,000 of 1,000 tokens" in shown
    assert "loss 0.250" in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back


def test_only_the_main_process_shows_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    report = ProgressReport(STEP_TOKENS)
    state = SimpleNamespace(global_step=0, is_world_process_zero=False)
    report.on_train_begin(None, state, None)
    state.global_step = 1
    finish_step(report, state)
    report.on_train_end(None, state, None)
    assert capsys.readouterr().err == ""
