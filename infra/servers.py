"""PostgreSQL, a Prefect server and an MLflow server for one machine: `python infra/servers.py`, or `make servers`.

All listen on free loopback ports, which stay the same from start to start, and end with this process. Their data is in
a folder of the project; telemetry is off.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

SUPERVISOR = Path(__file__).parents[1] / "flows/supervise.py"
NAMES = ("postgresql", "prefect", "mlflow")
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_CLI_PROMPT": "false",
}
START_SECONDS = 180


def main() -> None:
    """Start the servers, print their addresses, and wait until told to end or one of them has ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(".lmadapt/servers"), help="their data (%(default)s)"
    )
    folder = parser.parse_args().folder.resolve()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with ExitStack() as running:
        addresses, processes = start(folder, running)
        for name, address in addresses.items():
            print(f"export {name}={address}", flush=True)
        print(f"# data and logs: {folder}; Ctrl-C ends all", flush=True)
        while all(process.poll() is None for process in processes.values()):
            time.sleep(0.5)
        ended = [name for name, process in processes.items() if process.poll() is not None]
        sys.exit(f"{', '.join(ended)} ended; its log is in {folder}")


def start(
    folder: Path, running: ExitStack
) -> tuple[dict[str, str], dict[str, "subprocess.Popen[bytes]"]]:
    """Start all three; their addresses by the variable that clients read, and their processes by name."""
    folder.mkdir(parents=True, exist_ok=True)
    ports, account = kept_ports(folder / "ports.json"), server_account()
    password = make_database(folder, account)
    database = f"127.0.0.1:{ports['postgresql']}"
    local = [
        f"-cport={ports['postgresql']}",
        "-clisten_addresses=127.0.0.1",
        "-cunix_socket_directories=",
    ]
    python, host = [sys.executable, "-m"], ["--host", "127.0.0.1", "--port"]
    postgres = [program("postgres"), "-D", data(folder, account), *local]
    if account:  # its supervisor stays root: `nobody` may not enter the folders of this Python
        postgres = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *postgres]
    processes = {"postgresql": child(folder, "postgresql", postgres, running)}
    wait_for_port(ports["postgresql"], processes["postgresql"], folder)
    make_databases(ports["postgresql"], password)
    processes["prefect"] = child(
        folder,
        "prefect",
        [*python, "prefect", "server", "start", *host, str(ports["prefect"])],
        running,
        PREFECT_API_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://lmadapt:{password}@{database}/prefect",
        PREFECT_HOME=str(folder / "prefect"),
    )
    processes["mlflow"] = child(
        folder,
        "mlflow",
        [*python, "mlflow", "server", *host, str(ports["mlflow"]), "--workers", "2"],
        running,
        # Not on the command line, where `ps` would show the password.
        MLFLOW_BACKEND_STORE_URI=f"postgresql://lmadapt:{password}@{database}/mlflow",
        MLFLOW_ARTIFACTS_DESTINATION=str(folder / "artifacts"),
    )
    api, tracking = (
        f"http://127.0.0.1:{ports['prefect']}/api",
        f"http://127.0.0.1:{ports['mlflow']}",
    )
    wait_for_answer(f"{api}/health", processes["prefect"], folder)
    wait_for_answer(f"{tracking}/health", processes["mlflow"], folder)
    return {"PREFECT_API_URL": api, "MLFLOW_TRACKING_URI": tracking}, processes


def kept_ports(file: Path) -> dict[str, int]:
    """A port for each server: those of the last start, or free ones."""
    if file.is_file():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    with ExitStack() as held:
        sockets = {name: held.enter_context(socket.socket()) for name in NAMES}
        for one in sockets.values():
            one.bind(("127.0.0.1", 0))
        ports = {name: int(one.getsockname()[1]) for name, one in sockets.items()}
    file.write_text(json.dumps(ports), encoding="utf-8")
    return ports


def server_account() -> dict[str, Any]:
    """As whom PostgreSQL runs, which refuses root: as `nobody` for root, as the user for all others."""
    return (
        {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": "/"}
        if os.getuid() == 0
        else {}
    )


def data(folder: Path, account: dict[str, Any]) -> Path:
    """Where PostgreSQL keeps its files; for root outside of the project, whose folders `nobody` may not enter."""
    return (
        Path("/var/lib/lmadapt") / folder.as_posix().strip("/").replace("/", "-")
        if account
        else folder / "data"
    )


def make_database(folder: Path, account: dict[str, Any]) -> str:
    """Make the cluster, unless it is there; the password of its one account, `lmadapt`."""
    kept, where = folder / "password", data(folder, account)
    if not kept.is_file():
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        password = secrets.token_urlsafe(24)
        handed = where.with_suffix(".password")
        handed.touch(mode=0o600)
        handed.write_text(password, encoding="utf-8")
        if account:
            for path in (where, handed):
                shutil.chown(path, account["user"], account["group"])
        options = [
            "-U",
            "lmadapt",
            "-A",
            "scram-sha-256",
            "--pwfile",
            handed,
            "-E",
            "UTF8",
            "--locale=C",
        ]
        subprocess.run(
            [program("initdb"), "-D", where, *options],
            check=True,
            stdout=subprocess.DEVNULL,
            **account,
        )
        handed.unlink()
        kept.touch(mode=0o600)
        kept.write_text(password, encoding="utf-8")
    return kept.read_text(encoding="utf-8")


def make_databases(port: int, password: str) -> None:
    """The databases `prefect` and `mlflow`, where they are not there."""
    connection = database_connection(port, password)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in ("prefect", "mlflow"):
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if not cursor.fetchone():
                cursor.execute(f"CREATE DATABASE {name}")
    connection.close()


def database_connection(port: int, password: str) -> Any:
    """A connection to PostgreSQL, which listens before it has put right what a crash left; exits when that lasts."""
    import psycopg2

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return psycopg2.connect(
                host="127.0.0.1", port=port, user="lmadapt", password=password, dbname="postgres"
            )
        except psycopg2.OperationalError as error:
            if (
                not re.search("starting up|not yet accepting", str(error))
                or time.monotonic() > deadline
            ):
                sys.exit(f"PostgreSQL: {error}")
            time.sleep(0.2)


def child(
    folder: Path, name: str, command: Sequence[Any], running: ExitStack, **variables: str
) -> "subprocess.Popen[bytes]":
    """Start a server that ends when `running` is left, and when this process is killed; its log is NAME.log."""
    log = running.enter_context((folder / f"{name}.log").open("ab"))
    supervised = [sys.executable, str(SUPERVISOR), str(os.getpid()), *map(str, command)]
    environment = {**os.environ, **QUIET, **variables}
    process = subprocess.Popen(
        supervised, cwd="/", env=environment, stdout=log, stderr=log, start_new_session=True
    )
    running.callback(end, process)
    return process


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a server to end, and wait for it."""
    process.terminate()
    process.wait()


def program(name: str) -> str:
    """The path of a program of PostgreSQL; exits where it is not installed."""
    folders = [
        os.environ.get("PATH", ""),
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
    ]
    found = shutil.which(name, path=os.pathsep.join(folders))
    return found or sys.exit(
        f"{name} is not installed; on Debian and Ubuntu: apt-get install postgresql"
    )


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Return when something listens on the port; exits when the process ends before."""
    _wait(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close(), process, folder)


def wait_for_answer(address: str, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Return when the address answers with success; exits when the process ends before."""
    _wait(lambda: urllib.request.urlopen(address, timeout=5).close(), process, folder)


def _wait(attempt: Any, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return attempt()
        except OSError:
            time.sleep(0.2)
    sys.exit(f"{process.args[3:6]} did not start within {START_SECONDS} s; its log is in {folder}")  # type: ignore[index]


if __name__ == "__main__":
    main()
