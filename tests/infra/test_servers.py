"""The servers for one machine: who gets in, and what is left when they stop.

No web page and no other account gets past them. They keep data and ports, and leave no process.
"""

import signal
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import httpx
import psutil
import pytest
from mlflow import MlflowClient

from tests.servers import servers, with_password

FOREIGN = "http://evil.example"
NEW_POOL = {"name": "hostile", "type": "process"}

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Running:
    folder: Path
    process: "subprocess.Popen[str]"
    addresses: dict[str, str]
    stop: ExitStack


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One start for all tests, because it takes half a minute; the last test stops it."""
    folder = tmp_path_factory.mktemp("servers") / "servers"
    with ExitStack() as stop:
        process, addresses = stop.enter_context(servers(folder, keep=True))
        yield Running(folder, process, addresses, stop)


def listening(process: int) -> set[str]:
    family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    found = chain.from_iterable(one.net_connections() for one in family)
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}


def test_the_servers_use_only_loopback_and_show_no_password(running: Running) -> None:
    health = urllib.request.urlopen(running.addresses["PREFECT_API_URL"] + "/health")
    assert health.read() == b"true"
    assert listening(running.process.pid) == {"127.0.0.1"}
    family = psutil.Process(running.process.pid).children(recursive=True)
    password = (running.folder / "password").read_text()
    assert not any(password in " ".join(one.cmdline()) for one in family)
    assert stat.S_IMODE((running.folder / "password").stat().st_mode) == 0o600


def test_a_foreign_page_or_account_gets_nothing_from_prefect(running: Running) -> None:
    api = running.addresses["PREFECT_API_URL"]
    assert httpx.post(f"{api}/work_pools/", json=NEW_POOL).status_code == 401
    plain = httpx.post(f"{api}/work_pools/", content=str(NEW_POOL), headers={"Origin": FOREIGN})
    assert plain.status_code == 401
    asks = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
    allowed = httpx.options(f"{api}/work_pools/", headers=asks)
    assert "access-control-allow-origin" not in allowed.headers
    entered = f"{with_password(running.addresses)}/work_pools/filter"
    assert httpx.post(entered, json={}).json() == []
    login = running.folder / "prefect-password"
    assert running.addresses["PREFECT_API_AUTH_STRING"] == f"lmadapt:{login.read_text()}"
    assert login.stat().st_mode & 0o077 == 0


def test_a_foreign_page_gets_nothing_from_mlflow(running: Running) -> None:
    models = f"{running.addresses['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models"
    assert httpx.get(f"{models}/search").status_code == 200
    assert httpx.get(f"{models}/search", headers={"Host": "evil.example"}).status_code == 403
    foreign = {"Origin": FOREIGN}
    made = httpx.post(f"{models}/create", json={"name": "hostile"}, headers=foreign)
    assert made.status_code == 403


def test_the_servers_keep_data_and_ports_and_leave_no_process(running: Running) -> None:
    address = running.addresses["MLFLOW_TRACKING_URI"]
    client = MlflowClient(address, registry_uri=address)  # whatever other tests have set
    client.create_registered_model("kept")
    family = psutil.Process(running.process.pid).children(recursive=True)
    running.stop.close()
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    with servers(running.folder) as (process, again):
        assert again == running.addresses
        assert [model.name for model in client.search_registered_models()] == ["kept"]
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
