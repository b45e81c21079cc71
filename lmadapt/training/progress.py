"""How far a training is: a bar on a terminal, a line every half minute in a log file."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

LINE_SECONDS = 30.0  # between two lines where the output is no terminal


class ProgressReport(TrainerCallback):
    """Show steps, tokens, tokens per second, the time left and the loss on the standard error.

    `step_tokens` holds the tokens of each step. Speed and time left come from this run alone, also
    where it continues from a checkpoint. Call `stop` when training ends, also by an exception.
    """

    def __init__(self, step_tokens: Sequence[int]) -> None:
        self.step_tokens = step_tokens
        self.total = sum(step_tokens)
        self.done = 0
        self.step = 0
        self.loss = "-"
        self.bar: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start at the first step, or at that of the checkpoint."""
        self.step = state.global_step
        self.done = self.before = sum(self.step_tokens[: state.global_step])
        self.began = self.printed = time.monotonic()
        self.shown = state.is_world_process_zero
        console = Console(stderr=True)
        if self.shown and console.is_terminal:
            self.bar = Progress(
                TextColumn("training: {task.fields[numbers]}"),
                BarColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self.task = self.bar.add_task(
                "", total=self.total, completed=self.done, numbers=self._numbers()
            )
            self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Add the tokens of the step."""
        self.step = state.global_step
        self.done += self.step_tokens[state.global_step - 1]

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Show the step with its loss; the Trainer logs a step after it ends."""
        if not logs or "loss" not in logs:
            return
        self.loss = f"{logs['loss']:.3f}"
        if self.bar:
            self.bar.update(self.task, completed=self.done, numbers=self._numbers())
        elif self.shown and time.monotonic() - self.printed >= LINE_SECONDS:
            self._print_line()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Print the last step, however short the training was."""
        if self.shown and not self.bar:
            self._print_line()

    def stop(self) -> None:
        """Leave the bar as it is and give the terminal back."""
        if self.bar:
            self.bar.stop()

    def _numbers(self) -> str:
        speed = self._tokens_per_second()
        return (
            f"step {self.step} of {len(self.step_tokens)}, {self.done:,} of {self.total:,} tokens, "
            f"{speed:,.0f} tokens/s, loss {self.loss}"
        )

    def _print_line(self) -> None:
        self.printed = time.monotonic()
        speed = self._tokens_per_second()
        left = f", {_duration((self.total - self.done) / speed)} left" if speed else ""
        print(f"training: {self._numbers()}{left}", file=sys.stderr, flush=True)

    def _tokens_per_second(self) -> float:
        return (self.done - self.before) / max(time.monotonic() - self.began, 1e-9)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
