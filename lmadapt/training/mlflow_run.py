"""A training's run in MLflow: live figures on the server that MLFLOW_TRACKING_URI names.

transformers' MLflowCallback (5.23) does less. Where the server does not answer, it raises an error
with the address and its password. It ends an interrupted run as FINISHED. After a resume it starts
a new run. It sends neither the settings of the stage nor the scores of held-out text.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import torch
from transformers import TrainerCallback

from lmadapt.core.files import atomic_file

log = logging.getLogger(__name__)

ADDRESS = "MLFLOW_TRACKING_URI"
# MLflow's own defaults would wait for four minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
RUN_FILE = "mlflow_run"  # beside the checkpoints: the id of the run they belong to


class MlflowRun(TrainerCallback):
    """Send the figures of each step and of held-out text to one run, also after a resume.

    The experiment is MLFLOW_EXPERIMENT_NAME, or `lmadapt`. The run ends as FINISHED, or as KILLED
    where a checkpoint waits to be continued. Training never depends on the server: where it does
    not answer, one warning says so, and no more requests are made. `step_tokens` holds the tokens
    of each step.
    """

    def __init__(self, stage: str, settings: Mapping[str, Any], step_tokens: Sequence[int]) -> None:
        self.stage = stage
        self.settings = settings
        self.step_tokens = step_tokens
        self.client: Any = None  # None: nothing is sent

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Create the run, or continue the run of the checkpoint."""
        self.sent = len(state.log_history) if state.global_step else 0
        self.step_began = time.monotonic()
        if os.environ.get(ADDRESS) and state.is_world_process_zero:
            for name, value in PATIENCE.items():
                os.environ.setdefault(name, value)
            self._or_warn(lambda: self._open(Path(args.output_dir) / RUN_FILE))

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Send the new entries of the history, with the speed and memory of the step."""
        if not self.client or "loss" not in (logs or {}):
            return
        seconds = max(time.monotonic() - self.step_began, 1e-9)
        measured = {
            "step": state.global_step,
            "tokens_per_second": self.step_tokens[state.global_step - 1] / seconds,
            "peak_memory_gb": _peak_memory_bytes() / 1e9,
        }
        self._or_warn(lambda: self._send([*state.log_history[self.sent :], measured]))
        self.sent = len(state.log_history)
        self.step_began = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Send the rest, and the status."""
        resumable = (Path(args.output_dir) / f"checkpoint-{state.global_step}").is_dir()
        status = "KILLED" if resumable else "FINISHED"
        if self.client:
            self._or_warn(lambda: self._close(state.log_history[self.sent :], status))

    def _open(self, file: Path) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(os.environ[ADDRESS])
        run = _reopened(client, file) or self._created(client)
        with atomic_file(file) as temporary:
            temporary.write_text(run, encoding="utf-8")
        self.run, self.client = run, client

    def _created(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "lmadapt")
        if not client.get_experiment_by_name(name):
            try:
                client.create_experiment(name)
            except MlflowException:
                log.debug("another process created the experiment %s meanwhile", name)
        experiment = client.get_experiment_by_name(name).experiment_id
        run = client.create_run(experiment, run_name=self.stage, tags={"stage": self.stage})
        for key, value in self.settings.items():
            client.log_param(run.info.run_id, key, value)
        return str(run.info.run_id)

    def _send(self, entries: Sequence[Mapping[str, float]]) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = []
        for entry in entries:
            for name, value in entry.items():
                if name not in {"step", "epoch"}:
                    metrics.append(Metric(name, float(value), now, entry["step"]))
        self.client.log_batch(self.run, metrics=metrics)

    def _close(self, entries: Sequence[Mapping[str, float]], status: str) -> None:
        self._send(entries)
        self.client.set_terminated(self.run, status)

    def _or_warn(self, request: Callable[[], Any]) -> None:
        """Make the request; where it fails, warn and make no more."""
        try:
            request()
        except Exception as error:  # whatever the server or its client raises
            self.client = None
            # Its text may hold the password of the address.
            log.warning("%s: %s; training continues without it", ADDRESS, type(error).__name__)


def _reopened(client: Any, file: Path) -> str | None:
    """The id of the run named in `file`, set to RUNNING; None without one, or where it is gone."""
    from mlflow.exceptions import MlflowException

    if not file.is_file():
        return None
    try:
        run = str(client.get_run(file.read_text(encoding="utf-8")).info.run_id)
        client.update_run(run, status="RUNNING")
    except MlflowException:
        return None
    return run


def _peak_memory_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return getrusage(RUSAGE_SELF).ru_maxrss * 1024
