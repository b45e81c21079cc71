"""An agent's checks, and how it drains, with a real Prefect server."""

import os
import signal
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from infra.agent.agent import CLOCK_SECONDS, wrong_clock, wrong_gpu, wrong_versions
from tests.servers import servers, with_password

ROOT = Path(__file__).parents[2]
AGENT = [sys.executable, str(ROOT / "infra/agent/agent.py")]


def repository(folder: Path, *, origin: bool) -> Path:
    project = folder / "project"
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    subprocess.run(["git", "init", "-q", "--bare", str(folder / "shared.git")], check=True)
    remote = ["remote", "add", "-q", "-d", "store", str(folder / "store")]
    for command in (["init", "-q"], remote):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=project, check=True)
    (project / "requirements.lock").write_text((ROOT / "requirements.lock").read_text())
    (project / "slow.py").write_text(
        "import time\nfrom prefect import flow\n\n@flow\ndef slow():\n    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    slow.from_source('.', 'slow.py:slow').deploy('slow', work_pool_name='cpu')\n"
    )
    if origin:
        subprocess.run(
            ["git", "remote", "add", "origin", str(folder / "shared.git")], cwd=project, check=True
        )
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "add", "-A"], cwd=project, check=True)
        subprocess.run([*git, "commit", "-qm", "A project"], cwd=project, check=True)
        subprocess.run(["git", "push", "-q", "origin", "HEAD"], cwd=project, check=True)
    return project


def test_a_package_whose_version_is_not_the_locked_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("prefect==1.0.0\n")
    assert "lock has 1.0.0" in wrong_versions(tmp_path / "requirements.lock")[0]
    assert wrong_versions(ROOT / "requirements.lock") == []


def test_an_agent_needs_exactly_one_gpu_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong_gpu(None) == []
    assert "one GPU" in wrong_gpu("0,1")[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "GPU 0 does not answer" in wrong_gpu("0")[0]


def test_a_clock_far_from_the_server_s_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    for off in (-CLOCK_SECONDS, CLOCK_SECONDS):
        assert wrong_clock(formatdate(now + off)) == []
    assert "3600 s ahead of" in wrong_clock(formatdate(now - 3600))[0]
    assert "3600 s behind" in wrong_clock(formatdate(now + 3600))[0]


def test_an_unfit_machine_takes_no_runs(tmp_path: Path) -> None:
    variables = {
        "LMADAPT_PROJECT": str(repository(tmp_path, origin=False)),
        "LMADAPT_FREE_GB": "1000000",
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    done = subprocess.run(
        [*AGENT, "cpu"],
        env=os.environ | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    for said in ("LMADAPT_FREE_GB", "git remote origin", "work pool cpu"):
        assert said in done.stderr, done.stderr


@pytest.mark.faults
def test_an_agent_that_is_told_to_stop_stops_its_run_and_takes_no_other(tmp_path: Path) -> None:
    project = repository(tmp_path, origin=True)
    with servers(tmp_path / "servers") as (_, addresses):
        api = with_password(addresses)
        variables = os.environ | addresses
        variables |= {
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "LMADAPT_PROJECT": str(project),
            "LMADAPT_FREE_GB": "0",
            "PREFECT_CLI_PROMPT": "false",
        }
        for command in (
            ["-m", "prefect", "work-pool", "create", "cpu", "--type", "process"],
            ["slow.py"],
        ):
            subprocess.run(
                [sys.executable, *command],
                env=variables,
                cwd=project,
                check=True,
                capture_output=True,
            )
        deployment = httpx.get(f"{api}/deployments/name/slow/slow").json()["id"]

        def start() -> str:
            made = httpx.post(
                f"{api}/deployments/{deployment}/create_flow_run",
                json={"state": {"type": "SCHEDULED"}},
            )
            return str(made.json()["id"])

        def state(run: str) -> str:
            return str(httpx.get(f"{api}/flow_runs/{run}").json()["state_type"])

        first = start()
        with (tmp_path / "agent.log").open("w") as log:
            agent = subprocess.Popen(
                [*AGENT, "cpu/default"], env=variables, cwd=project, stdout=log, stderr=log
            )
        try:
            deadline = time.monotonic() + 120
            while state(first) != "RUNNING":
                assert time.monotonic() < deadline, (tmp_path / "agent.log").read_text()
                time.sleep(0.5)
            second = start()
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(120) == 0, (tmp_path / "agent.log").read_text()
            assert (state(first), state(second)) == ("CRASHED", "SCHEDULED")
        finally:
            agent.kill()
            agent.wait()
