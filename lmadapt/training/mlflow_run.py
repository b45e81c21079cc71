"""A training's run in MLflow while it goes on: the server of MLFLOW_TRACKING_URI, the same run after a resume."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import torch
from transformers import TrainerCallback

from lmadapt.core.files import atomic_file

log = logging.getLogger(__name__)

ADDRESS = "MLFLOW_TRACKING_URI"
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}  # its own: four minutes
RUN_FILE = "mlflow_run"  # beside the checkpoints: the id of their run


class MlflowRun(TrainerCallback):
    """Each step's figures, and those of held-out text, in a run of the experiment MLFLOW_EXPERIMENT_NAME or `lmadapt`.

    The run ends FINISHED, or KILLED where a later start is to go on with it. A server that does not answer is warned
    of, once, and not asked again: no training depends on it. `tokens`: of each step.
    """

    def __init__(self, stage: str, settings: Mapping[str, Any], tokens: Sequence[int]) -> None:
        self.stage, self.settings, self.tokens = stage, settings, tokens
        self.client: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Begin the run, or go on with that of the checkpoint."""
        self.sent, self.before = (
            len(state.log_history) if state.global_step else 0,
            time.monotonic(),
        )
        if os.environ.get(ADDRESS) and state.is_world_process_zero:
            for name, value in PATIENCE.items():
                os.environ.setdefault(name, value)
            self._ask(lambda: self._begin(Path(args.output_dir) / RUN_FILE))

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Send what is new since the last time, and how fast the step was."""
        if self.client and "loss" in (logs or {}):
            now = time.monotonic()
            speed = self.tokens[state.global_step - 1] / max(now - self.before, 1e-9)
            gpu = torch.cuda.is_available()
            memory = (
                torch.cuda.max_memory_reserved() if gpu else getrusage(RUSAGE_SELF).ru_maxrss * 1024
            )
            state_of_step = {
                "step": state.global_step,
                "tokens_per_second": speed,
                "peak_memory_gb": memory / 1e9,
            }
            self._ask(lambda: self._send([*state.log_history[self.sent :], state_of_step]))
            self.sent, self.before = len(state.log_history), time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Send the rest, and say how it ended."""
        to_go_on = (Path(args.output_dir) / f"checkpoint-{state.global_step}").is_dir()
        if self.client:
            self._ask(lambda: self._send(state.log_history[self.sent :]))
        if self.client:
            self._ask(
                lambda: self.client.set_terminated(self.run, "KILLED" if to_go_on else "FINISHED")
            )

    def _begin(self, file: Path) -> None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        client, name = (
            MlflowClient(os.environ[ADDRESS]),
            os.environ.get("MLFLOW_EXPERIMENT_NAME", "lmadapt"),
        )
        if file.is_file():
            with suppress(MlflowException):  # the server no longer has it
                self.run = client.get_run(file.read_text(encoding="utf-8")).info.run_id
                client.update_run(self.run, status="RUNNING")
                self.client = client
                return
        if not client.get_experiment_by_name(name):
            with suppress(MlflowException):  # another process made it meanwhile
                client.create_experiment(name)
        experiment = client.get_experiment_by_name(name).experiment_id
        self.run = client.create_run(
            experiment, run_name=self.stage, tags={"stage": self.stage}
        ).info.run_id
        with atomic_file(file) as temporary:
            temporary.write_text(self.run, encoding="utf-8")
        for key, value in self.settings.items():
            client.log_param(self.run, key, value)
        self.client = client

    def _send(self, entries: Sequence[Mapping[str, float]]) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        wanted = [
            (entry["step"], *item)
            for entry in entries
            for item in entry.items()
            if "epoch" not in item
        ]
        metrics = [
            Metric(name, float(value), now, step) for step, name, value in wanted if name != "step"
        ]
        self.client.log_batch(self.run, metrics=metrics)

    def _ask(self, request: Callable[[], Any]) -> None:
        try:
            request()
        except (
            Exception
        ) as error:  # whatever a server, or its client, comes up with; its text may hold a password
            self.client = None
            log.warning("%s: %s; the training goes on without it", ADDRESS, type(error).__name__)
