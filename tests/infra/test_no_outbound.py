"""Servers, a local run and a worker's run work without a network, and none tries to reach one.

They run in a network namespace that has only loopback, under strace, and no variable switches
telemetry off for them.
"""

import os
import re
import shutil
import subprocess
import sys
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

from infra.servers import data, server_account
from tests.project import make_project

ROOT = Path(__file__).parents[2]
ISOLATED = [
    "unshare",
    "--net",
    *([] if os.getuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]),
]
TRACED = [
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-e",
    "trace=connect,sendto,sendmsg,sendmmsg",
    "-e",
    "signal=none",
]
ADDRESS = re.compile(
    r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\), "
    r".*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\""
)
# `prefect work-pool create` has the server ask GitHub for a list of worker types, and no setting
# forbids it (docs/operations.md): the pool is made through the API.
RUN = """
import os, subprocess, sys
from contextlib import ExitStack
from pathlib import Path
from infra.servers import end, start

folder, python = Path(sys.argv[1]), sys.executable
def run(*command):
    subprocess.run([python, "-m", *command], cwd=folder / "project", check=True)

with ExitStack() as running:
    os.environ |= start(folder / "servers", running)[0]
    run("flows.adapt")
    os.environ["LMADAPT_PROJECT"] = str(folder / "project")
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    pool = '{"name": "lmadapt", "type": "process"}'
    run("prefect", "api", "POST", "/work_pools/", "--data", pool)
    run(*"prefect --no-prompt deploy --prefect-file infra/prefect.yaml --name local".split())
    start_worker = [python, *"-m prefect worker start --pool lmadapt".split()]
    worker = subprocess.Popen(start_worker, cwd=folder / "project")
    running.callback(end, worker)
    run("prefect", "deployment", "run", "adapt/local", "--watch")
    del os.environ["PREFECT_API_URL"]
    run("flows.adapt")  # with the server that Prefect starts for one run
    print("all ended well")
"""


def outside(trace: str) -> set[str]:
    """The lines of strace with an address beyond loopback, or with any name server."""
    found = set()
    for line in trace.splitlines():
        for port, text in ADDRESS.findall(line):
            address = ip_address(text)
            if isinstance(address, IPv6Address) and address.ipv4_mapped:
                address = address.ipv4_mapped
            if port == "53" or not (address.is_loopback or address.is_unspecified):
                found.add(line.partition(" ")[2])
    return found


def traced(folder: Path, *command: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a command without a network, at home in `folder`; what it did, and strace's lines."""
    if not shutil.which("strace") or not shutil.which("ip"):
        pytest.skip("needs strace and iproute2")
    if subprocess.run(
        [*ISOLATED, "ip", "link", "set", "lo", "up"], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs network namespaces")
    log = folder / "trace"
    whole = [
        *ISOLATED,
        "sh",
        "-c",
        'ip link set lo up && exec "$@"',
        "sh",
        *TRACED,
        "-o",
        str(log),
        *command,
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        "PATH": path,
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        whole,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done, log.read_text(errors="replace")


def test_addresses_beyond_loopback_and_name_servers_are_found_in_a_trace() -> None:
    far = (
        "connect(3, {sa_family=AF_INET, sin_port=htons(443), "
        'sin_addr=inet_addr("192.0.2.1")}, 16) = 0'
    )
    far6 = (
        "connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), "
        'inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = 0'
    )
    near = [far.replace("192.0.2.1", "127.0.0.1"), far6.replace("2001:db8::1", "::1")]
    near += [
        far6.replace("2001:db8::1", "::ffff:127.0.0.1"),
        'connect(3, {sa_family=AF_UNIX, sun_path="/run/x"}, 9) = 0',
    ]
    asked = near[0].replace("443", "53")
    assert outside("\n".join(f"17 {line}" for line in [far, far6, asked, *near])) == {
        far,
        far6,
        asked,
    }


def test_a_name_lookup_is_in_the_trace(tmp_path: Path) -> None:
    done, trace = traced(
        tmp_path, sys.executable, "-c", "import socket; socket.getaddrinfo('example.invalid', 443)"
    )
    assert "name resolution" in done.stdout
    assert outside(trace)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_servers_a_local_run_and_a_worker_reach_for_no_address_beyond_loopback(
    tmp_path: Path, tiny_model: Path
) -> None:
    make_project(tmp_path / "project", tiny_model)
    done, trace = traced(tmp_path, sys.executable, "-c", RUN, str(tmp_path))
    shutil.rmtree(data(tmp_path / "servers", server_account()), ignore_errors=True)
    if "not installed" in done.stdout:
        pytest.skip("needs PostgreSQL")
    assert done.returncode == 0, done.stdout[-6000:]
    assert "all ended well" in done.stdout
    assert "COMPLETED" in done.stdout.upper(), done.stdout[-6000:]
    assert "127.0.0.1" in trace  # strace saw the run
    assert outside(trace) == set()
