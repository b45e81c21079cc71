"""What the files for containers promise; these tests start no container."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
PINNED = re.compile(r":\d+\.\d+")


def test_only_the_proxy_is_published() -> None:
    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == [
        "proxy"
    ]
    assert not [name for name, service in COMPOSE["services"].items() if "network_mode" in service]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_has_a_pinned_image_restarts_and_a_health_check(name: str) -> None:
    service = COMPOSE["services"][name]
    assert PINNED.search(service["image"])
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"


def test_the_file_holds_no_password_and_data_is_in_volumes() -> None:
    text = (INFRA / "compose.yaml").read_text()
    for name in ("POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
        assert set(re.findall(rf"\$\{{{name}[^}}]*\}}", text)) == {f"${{{name}:?}}"}
    assert {"postgresql", "store"} == set(COMPOSE["volumes"])


def test_images_have_a_pinned_base_and_the_versions_of_the_lock() -> None:
    lines = (INFRA / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert PINNED.search(bases[0])
    assert bases[1:] == ["server"]
    assert all("requirements.lock" in line for line in lines if "pip install" in line)


def test_an_agent_on_kubernetes_has_one_gpu_no_privileges_and_time_to_drain() -> None:
    pod = yaml.safe_load((INFRA / "agent/kubernetes.yaml").read_text())["spec"]["template"]["spec"]
    [agent] = pod["containers"]
    assert agent["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["terminationGracePeriodSeconds"] == 900
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in [agent, *pod["initContainers"]]:
        assert PINNED.search(container["image"])
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_accepts_the_unit() -> None:
    unit = INFRA / "agent/lmadapt-agent@.service"
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert unit.name not in done.stderr, done.stderr
    assert "KillMode=mixed" in unit.read_text()
