"""`lmadapt serve` in a process of its own, called with the official OpenAI client."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import openai
import pytest
import requests

from lmadapt.core.errors import UserError
from lmadapt.registry.connection import connect
from lmadapt.registry.serving import Serving, serve, server_command
from lmadapt.registry.versions import named_version
from tests.adapted import make_adapted_project, run_register, write_evaluation
from tests.adapter import make_adapter
from tests.registry_server import free_port

QUESTION = [{"role": "user", "content": "What is number 7?"}]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Path]:
    """A project whose champion is version 1, and version 2 a candidate."""
    folder = make_adapted_project(tmp_path_factory.mktemp("serving") / "project", tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        run_register()
        shutil.rmtree("models/adapter")
        make_adapter(tiny_model, Path("models/adapter"), seed=1)
        write_evaluation(folder, "HOLD")
        run_register()
        yield folder


@contextmanager
def serving(project: Path, reference: str, *options: str) -> Iterator[tuple[openai.OpenAI, Path]]:
    """A client of the server, and the file with its output."""
    port, log = free_port(), project / "serve.log"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "lmadapt", "serve", reference, "--port", str(port), *options]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=project, env=environment, stdout=stream, stderr=stream
        )
    try:
        wait_for(lambda: answers(port), process, log)
        yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="-"), log
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        assert not answers(port)  # the server ended with it


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(
    condition: object, process: "subprocess.Popen[bytes]", log: Path, seconds: float = 120
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)


def ask(client: openai.OpenAI) -> str:
    answer = client.chat.completions.create(
        model="tiny", messages=QUESTION, max_tokens=8, temperature=0
    )  # type: ignore[arg-type]
    return str(answer.choices[0].message.content)


def test_the_openai_client_gets_answers_and_the_server_follows_the_alias(
    project: Path,
) -> None:
    with serving(project, "tiny@champion", "--follow", "--poll-seconds", "0.5") as (client, log):
        first = ask(client)
        stream = client.chat.completions.create(  # type: ignore[call-overload]
            model="tiny", messages=QUESTION, max_tokens=8, temperature=0, stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert len([piece for piece in pieces if piece]) > 1
        assert "".join(pieces) == first
        registry = connect("sqlite:///mlflow.db", project)
        registry.set_registered_model_alias("tiny", "champion", "2")
        deadline = time.monotonic() + 120
        while "tiny version 2 is loading" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert ask(client.with_options(max_retries=40)) != first
    registry.set_registered_model_alias("tiny", "champion", "1")


def test_mlflow_serves_a_version_too(project: Path) -> None:
    port, log = free_port(), project / "mlflow.log"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "models:/tiny/1",
        "--env-manager",
        "local",
    ]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        wait_for(lambda: answers(port), process, log)
        body = {
            "inputs": ["What is number 7?", "And 8?"],
            "params": {"max_new_tokens": 8, "stop": ["zz"]},
        }
        answered = requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=60)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    expected = mlflow.pyfunc.load_model("models:/tiny/1").predict(
        body["inputs"], params=body["params"]
    )
    assert answered.json()["predictions"] == expected, answered.text


def refusal(project: Path, port: int) -> str:
    """Why `lmadapt serve tiny/2` serves nothing."""
    client = connect("sqlite:///mlflow.db", project)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(UserError) as caught:
            serve(Serving(client, "tiny/2", port, None, print))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_a_port_in_use_and_files_that_changed_are_refused(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refusal(project, port)
        assert f"port {port} cannot be used: Address already in use; choose another with" in said
    version = named_version(connect("sqlite:///mlflow.db", project), "tiny/2")
    weights = next(
        (project / "mlartifacts/models").glob(
            f"{version.source.rpartition('/')[2]}/**/*.safetensors"
        )
    )
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert "not the files that were registered" in refusal(project, free_port())


def test_vllm_is_used_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm = tmp_path / "vllm"
    vllm.write_text("#!/bin/sh\n")
    vllm.chmod(0o755)
    (tmp_path / "adapter_config.json").write_text('{"r": 16}')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    merged = server_command("tiny", 8001, tmp_path, None, quantised=False)
    assert merged == [str(vllm), "serve", "tiny", "--host", "127.0.0.1", "--port", "8001"]
    adapter = server_command("tiny", 8001, tmp_path, Path("/base"), quantised=True)
    assert adapter[adapter.index("--quantization") + 1] == "bitsandbytes"
    for base in (None, Path("/base")):
        for quantised in (True, False):
            command = server_command("tiny", 8001, tmp_path, base, quantised=quantised)
            assert ("--quantization" in command) is quantised
    assert adapter[:3] == [str(vllm), "serve", "/base"]
    assert adapter[adapter.index("--lora-modules") + 1] == f"tiny={tmp_path}"
    assert adapter[adapter.index("--max-lora-rank") + 1] == "16"


def test_without_a_server_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("lmadapt.registry.serving.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"install vllm, or fastapi, uvicorn, openai .*lmadapt\[serve\]"
    ):
        server_command("tiny", 8001, tmp_path, None, quantised=False)
