"""The servers of `make servers`, while a test needs them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@contextmanager
def servers(
    folder: Path, *, keep: bool = False
) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """The process that runs the servers, and their addresses.

    Skips the test where PostgreSQL is not installed. With `keep`, PostgreSQL's data, which for root
    is outside `folder`, stays.
    """
    command = [sys.executable, "infra/servers.py", "--folder", str(folder)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    addresses = {}
    try:
        while (line := process.stdout.readline()).startswith("export "):
            name, _, address = line.removeprefix("export ").strip().partition("=")
            addresses[name] = address
        if not line:
            said = process.stderr.read()
            pytest.skip(said) if "not installed" in said else pytest.fail(said)
        yield process, addresses
    finally:
        process.terminate()
        process.wait(60)
        if not keep:
            outside = Path("/var/lib/lmadapt") / folder.as_posix().strip("/").replace("/", "-")
            shutil.rmtree(outside, ignore_errors=True)


def with_password(addresses: dict[str, str]) -> str:
    """The address of Prefect's API for httpx, which takes a password from an address."""
    login = addresses["PREFECT_API_AUTH_STRING"]
    return addresses["PREFECT_API_URL"].replace("://", f"://{login}@")
