"""PostgreSQL, Prefect and MLflow servers for one machine: `python infra/servers.py`.

`make servers` runs it too. The servers listen on loopback ports that stay the same at every start,
and stop with this process. Their data is in a folder of the project. Telemetry is off.
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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

SUPERVISOR = Path(__file__).parents[1] / "flows/supervise.py"
NAMES = ("postgresql", "prefect", "mlflow")
QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # GenAI jobs that nothing here asks for
    "PREFECT_CLI_PROMPT": "false",
}
START_SECONDS = 180
Process = subprocess.Popen[bytes]


def main() -> None:
    """Start the servers, print their addresses, and wait for a signal or for one of them to end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(".lmadapt/servers"),
        help="data and logs of the servers (%(default)s)",
    )
    folder = parser.parse_args().folder.resolve()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with ExitStack() as running:
        addresses, processes = start(folder, running)
        for name, address in addresses.items():
            print(f"export {name}={address}", flush=True)
        print(f"# data and logs: {folder}; Ctrl-C stops all servers", flush=True)
        while all(process.poll() is None for process in processes.values()):
            time.sleep(0.5)
        ended = [name for name, process in processes.items() if process.poll() is not None]
        sys.exit(f"{', '.join(ended)} ended; see its log in {folder}")


def start(folder: Path, running: ExitStack) -> tuple[dict[str, str], dict[str, Process]]:
    """Start all three servers; they stop when `running` is closed.

    Returns their addresses and Prefect's password, by the variables that clients read, and their
    processes, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ports, account = kept_ports(folder / "ports.json"), server_account()
    password = make_cluster(folder, account)
    database = f"lmadapt:{password}@127.0.0.1:{ports['postgresql']}"
    postgresql = start_postgresql(folder, ports["postgresql"], account, running)
    make_databases(ports["postgresql"], password)
    python, host = [sys.executable, "-m"], ["--host", "127.0.0.1", "--port"]
    prefect_at, tracking = (f"http://127.0.0.1:{ports[name]}" for name in ("prefect", "mlflow"))
    login = f"lmadapt:{kept_secret(folder / 'prefect-password')}"
    # The addresses of the databases stay off the command line, where `ps` would show the password.
    prefect = child(
        folder,
        "prefect",
        [*python, "prefect", "server", "start", *host, str(ports["prefect"])],
        running,
        PREFECT_API_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://{database}/prefect",
        PREFECT_HOME=str(folder / "prefect"),
        PREFECT_SERVER_API_AUTH_STRING=login,
        PREFECT_API_AUTH_STRING=login,
        PREFECT_SERVER_CORS_ALLOWED_ORIGINS=prefect_at,
    )
    mlflow = child(
        folder,
        "mlflow",
        [*python, "mlflow", "server", *host, str(ports["mlflow"]), "--workers", "2"],
        running,
        MLFLOW_BACKEND_STORE_URI=f"postgresql://{database}/mlflow",
        MLFLOW_ARTIFACTS_DESTINATION=str(folder / "artifacts"),
        MLFLOW_SERVER_ALLOWED_HOSTS=f"127.0.0.1:{ports['mlflow']},localhost:{ports['mlflow']}",
        MLFLOW_SERVER_CORS_ALLOWED_ORIGINS=tracking,
    )
    api = f"{prefect_at}/api"
    wait_for_answer(f"{api}/health", prefect, folder)
    wait_for_answer(f"{tracking}/health", mlflow, folder)
    addresses = {"PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": login}
    addresses["MLFLOW_TRACKING_URI"] = tracking
    return addresses, {"postgresql": postgresql, "prefect": prefect, "mlflow": mlflow}


def start_postgresql(
    folder: Path, port: int, account: dict[str, Any], running: ExitStack
) -> Process:
    """Start PostgreSQL, and wait until it listens on the port."""
    postgres = [program("postgres"), "-D", data(folder, account), f"-cport={port}"]
    postgres += ["-clisten_addresses=127.0.0.1", "-cunix_socket_directories="]
    if account:  # its supervisor stays root: `nobody` may not enter the folders of this Python
        postgres = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *postgres]
    process = child(folder, "postgresql", postgres, running)
    wait_for_port(port, process, folder)
    return process


def kept_ports(file: Path) -> dict[str, int]:
    """A port for each server: those of the last start, or free ones, which `file` keeps."""
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
    """How to run PostgreSQL, which refuses root: as `nobody` for root, else as the user (empty)."""
    if os.getuid() != 0:
        return {}
    return {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": "/"}


def data(folder: Path, account: dict[str, Any]) -> Path:
    """Where PostgreSQL keeps its files: for root outside the project, where `nobody` may enter."""
    if not account:
        return folder / "data"
    return Path("/var/lib/lmadapt") / folder.as_posix().strip("/").replace("/", "-")


def make_cluster(folder: Path, account: dict[str, Any]) -> str:
    """Make PostgreSQL's cluster if there is none; the password of its only account, `lmadapt`.

    A cluster is made under another name, so one under its own name is whole and is never removed.
    Exits when its password is missing.
    """
    kept, where = folder / "password", data(folder, account)
    if where.exists() and any(where.iterdir()):
        if not kept.is_file():
            sys.exit(
                f"{where} holds databases, but the file with their password, {kept}, is missing; "
                "nothing was changed. Put the file back from a copy. If you need none of the data, "
                f"move {where} away and start again"
            )
        return kept.read_text(encoding="utf-8")
    password = secrets.token_urlsafe(24)
    handed, made = (where.with_name(where.name + end) for end in (".password", ".new"))
    shutil.rmtree(made, ignore_errors=True)  # what a killed start left
    made.mkdir(parents=True)
    write_secret(handed, password)
    if account:
        for path in (made, handed):
            shutil.chown(path, account["user"], account["group"])
    options = ["-U", "lmadapt", "-A", "scram-sha-256", "--pwfile", handed, "-E", "UTF8"]
    command = [program("initdb"), "-D", made, *options, "--locale=C"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **account)
    handed.unlink()
    write_secret(kept, password)
    made.rename(where)  # last: a cluster under its own name has its password
    return password


def kept_secret(file: Path) -> str:
    """The password in the file; a new one, where there is none."""
    if not file.is_file():
        write_secret(file, secrets.token_urlsafe(24))
    return file.read_text(encoding="utf-8")


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner can read; it appears whole."""
    written = file.with_name(file.name + ".tmp")
    written.unlink(missing_ok=True)
    written.touch(mode=0o600)
    written.write_text(text, encoding="utf-8")
    written.replace(file)


def make_databases(port: int, password: str) -> None:
    """Make the databases `prefect` and `mlflow` where they are missing."""
    connection = database_connection(port, password)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in ("prefect", "mlflow"):
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if not cursor.fetchone():
                cursor.execute(f"CREATE DATABASE {name}")
    connection.close()


def database_connection(port: int, password: str) -> Any:
    """A connection to PostgreSQL, which listens before it has recovered from a crash.

    Exits when recovery takes longer than START_SECONDS, and for any other error.
    """
    import psycopg2

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return psycopg2.connect(
                host="127.0.0.1", port=port, user="lmadapt", password=password, dbname="postgres"
            )
        except psycopg2.OperationalError as error:
            recovering = re.search("starting up|not yet accepting", str(error))
            if not recovering or time.monotonic() > deadline:
                sys.exit(f"PostgreSQL: {error}")
            time.sleep(0.2)


def child(
    folder: Path, name: str, command: Sequence[Any], running: ExitStack, **variables: str
) -> Process:
    """Start a server; its log is NAME.log.

    It stops when `running` is closed, and when this process is killed.
    """
    log = running.enter_context((folder / f"{name}.log").open("ab"))
    supervised = [sys.executable, str(SUPERVISOR), str(os.getpid()), *map(str, command)]
    environment = {**os.environ, **QUIET, **variables}
    process = subprocess.Popen(
        supervised, cwd="/", env=environment, stdout=log, stderr=log, start_new_session=True
    )
    running.callback(end, process)
    return process


def end(process: Process) -> None:
    """Tell a process to stop, and wait until it has."""
    process.terminate()
    process.wait()


def program(name: str) -> str:
    """The path of a program of PostgreSQL; exits where it is not installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders = [os.environ.get("PATH", ""), *map(str, versions)]
    found = shutil.which(name, path=os.pathsep.join(folders))
    return found or sys.exit(
        f"{name} is not installed; on Debian and Ubuntu: apt-get install postgresql"
    )


def wait_for_port(port: int, process: Process, folder: Path) -> None:
    """Return when the process listens on the port; exits when the process ends first."""
    _wait(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close(), process, folder)


def wait_for_answer(address: str, process: Process, folder: Path) -> None:
    """Return when the address answers with success; exits when the process ends first."""
    _wait(lambda: urllib.request.urlopen(address, timeout=5).close(), process, folder)


def _wait(attempt: Callable[[], None], process: Process, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return attempt()
        except OSError:
            time.sleep(0.2)
    command = process.args[3:6]  # type: ignore[index]
    sys.exit(f"{command} did not start within {START_SECONDS} s; see its log in {folder}")


if __name__ == "__main__":
    main()
