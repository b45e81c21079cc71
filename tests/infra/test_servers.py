"""The servers for one machine answer on loopback, keep data and ports, and stop together."""

import signal
import stat
import urllib.request
from itertools import chain
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from tests.servers import servers


def listening(process: int) -> set[str]:
    family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    found = chain.from_iterable(one.net_connections() for one in family)
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}


@pytest.mark.timeout(300)
def test_the_servers_use_only_loopback_keep_data_and_ports_and_leave_no_process(
    tmp_path: Path,
) -> None:
    with servers(tmp_path / "servers", keep=True) as (process, addresses):
        client = MlflowClient(addresses["MLFLOW_TRACKING_URI"])
        assert urllib.request.urlopen(addresses["PREFECT_API_URL"] + "/health").read() == b"true"
        client.create_registered_model("kept")
        assert listening(process.pid) == {"127.0.0.1"}
        family = psutil.Process(process.pid).children(recursive=True)
        password = (tmp_path / "servers/password").read_text()
        assert not any(password in " ".join(one.cmdline()) for one in family)
        assert stat.S_IMODE((tmp_path / "servers/password").stat().st_mode) == 0o600
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    with servers(tmp_path / "servers") as (process, again):
        assert again == addresses
        assert [model.name for model in client.search_registered_models()] == ["kept"]
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
