import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from lmadapt.core.errors import Interrupted
from lmadapt.training.progress import ProgressReport
from tests.stages.test_sft import run_sft


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make its tables, so both tests start from a copy."""
    file = tmp_path_factory.mktemp("empty") / "live.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def server(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "live.db")
    address = f"sqlite:///{tmp_path}/live.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    # By its address: another test in this process may have set one for all clients.
    return MlflowClient(address)


def runs(client: MlflowClient) -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name("lmadapt").experiment_id]))


def test_each_step_and_each_score_of_held_out_text_is_in_the_run(
    tiny_model: Path, server: MlflowClient
) -> None:
    folder = run_sft(tiny_model, Path("sft"), heldout_every_steps=3)
    (run,) = runs(server)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "sft"
    assert run.data.params["lora_rank"] == "2"
    lines = [line.split("\t") for line in (folder / "curve/loss.tsv").read_text().splitlines()]
    logged = server.get_metric_history(run.info.run_id, "loss")
    column = lines[0].index("loss")
    assert [metric.step for metric in logged] == list(range(1, len(lines)))
    assert [metric.value for metric in logged] == pytest.approx(
        [float(line[column]) for line in lines[1:]], rel=1e-4
    )
    heldout = (folder / "curve/heldout.tsv").read_text().splitlines()[1:]
    scored = server.get_metric_history(run.info.run_id, "heldout_domain")
    assert [metric.step for metric in scored] == [int(line.split("\t")[0]) for line in heldout]
    assert run.data.metrics["tokens_per_second"] > 0
    assert {
        "grad_norm",
        "learning_rate",
        "domain",
        "replay",
        "peak_memory_gb",
    } <= run.data.metrics.keys()


def test_a_resumed_training_continues_its_run(
    tiny_model: Path, server: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_end = ProgressReport.on_step_end

    def terminate_after_two(self: Any, args: Any, state: Any, control: Any, **others: Any) -> None:
        step_end(self, args, state, control, **others)
        if state.global_step == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(ProgressReport, "on_step_end", terminate_after_two)
        with pytest.raises(Interrupted):
            run_sft(tiny_model, Path("sft"))
    (run,) = runs(server)
    assert run.info.status == "KILLED"
    run_sft(tiny_model, Path("sft"))
    (again,) = runs(server)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    steps = [metric.step for metric in server.get_metric_history(run.info.run_id, "loss")]
    assert steps == list(range(1, len(steps) + 1))


def test_without_an_answer_from_the_server_a_warning_shows_and_the_adapter_is_the_same(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = run_sft(tiny_model, tmp_path / "alone")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv(
            "MLFLOW_TRACKING_URI", f"http://user:hunter2@127.0.0.1:{closed.getsockname()[1]}"
        )
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        watched = run_sft(tiny_model, tmp_path / "watched")
    assert "training continues without it" in caplog.text
    assert "hunter2" not in caplog.text
    weights = [
        (folder / "adapter/adapter_model.safetensors").read_bytes() for folder in (alone, watched)
    ]
    assert weights[0] == weights[1]
