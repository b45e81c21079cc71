"""A private PostgreSQL and an MLflow server over it, both on loopback, for a test."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mlflow.server.constants import (
    ARTIFACT_ROOT_ENV_VAR,
    ARTIFACTS_DESTINATION_ENV_VAR,
    BACKEND_STORE_URI_ENV_VAR,
    REGISTRY_STORE_URI_ENV_VAR,
    SERVE_ARTIFACTS_ENV_VAR,
)

from tests.fork_server import fork_server

NOBODY = "nobody"  # initdb refuses to run as root


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of an empty database in its own cluster.

    The test is skipped when PostgreSQL is not installed.
    """
    pytest.importorskip("psycopg2", reason="needs psycopg2")
    programs = (
        Path(_output("pg_config", "--bindir")) if shutil.which("pg_config") else Path("/usr/bin")
    )
    initdb, postgres = (
        shutil.which(name) or shutil.which(name, path=programs) for name in ("initdb", "postgres")
    )
    if not initdb or not postgres:
        pytest.skip("needs PostgreSQL: initdb and postgres are not installed")
    user = {"user": NOBODY, "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="lmadapt-postgresql-"))
    if user:
        shutil.chown(folder, user["user"], user["group"])  # type: ignore[arg-type]
    port = free_port()
    command = [initdb, "-D", folder / "data", "-U", "mlflow", "-A", "trust", "--no-sync"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)  # type: ignore[call-overload]
    settings = [
        f"-cport={port}",
        "-clisten_addresses=127.0.0.1",
        f"-cunix_socket_directories={folder}",
        "-cfsync=off",
    ]
    server = subprocess.Popen(
        [postgres, "-D", folder / "data", *settings], cwd="/", stderr=subprocess.DEVNULL, **user
    )  # type: ignore[call-overload]
    try:
        _wait_for(port, server)
        yield f"postgresql://mlflow:hunter2@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


@contextmanager
def mlflow_server(database: str, artifacts: Path) -> Iterator[str]:
    """The address of `mlflow server` over the database, with artifacts in a folder."""
    port = free_port()
    program = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    stores = ["--backend-store-uri", database, "--artifacts-destination", str(artifacts)]
    log = artifacts.with_suffix(".log").open("wb")
    without_jobs = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # as infra has it
    server = subprocess.Popen([*program, *stores], stdout=log, stderr=log, env=without_jobs)
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(port: int, server: "subprocess.Popen[bytes]", seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing answers on port {port}")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class MortalServer:
    """MLflow's server over SQLite, in a process that starts in 1 s and can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.context = fork_server()
        self.start()

    def start(self, *, dies_at: int = 0, answers_first: bool = False) -> None:
        """Start the server; it kills itself at request number `dies_at` (0: never).

        With `answers_first` it does what is asked, and dies before it answers.
        """
        fate = (dies_at, answers_first)
        self.process = self.context.Process(
            target=_run_server, args=(self.folder, self.port, *fate), daemon=True
        )
        self.process.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("the server does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def _run_server(folder: Path, port: int, dies_at: int, answers_first: bool) -> None:
    os.environ |= {
        BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{folder}/server.db",
        REGISTRY_STORE_URI_ENV_VAR: f"sqlite:///{folder}/server.db",
        ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "artifacts"),
        SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    import uvicorn
    from mlflow.server.fastapi_app import app

    requested = count(1)

    async def mortal(scope: Any, receive: Any, send: Any) -> None:
        last = scope["type"] == "http" and next(requested) == dies_at
        if last and not answers_first:
            os.kill(os.getpid(), signal.SIGKILL)
        await app(scope, receive, _unheard if last else send)

    async def _unheard(message: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    uvicorn.run(mortal, host="127.0.0.1", port=port, log_level="error")
