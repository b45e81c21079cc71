"""The files for containers and clusters against what defines them, and that these checks find a fault.

compose.yaml against the schema of the Compose Specification (in check-jsonschema), the manifest against that of
Kubernetes (in kubernetes-validate), the Dockerfile by hadolint: all offline.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"
CHECKS = {
    "compose.yaml": [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
    ],
    "agent/kubernetes.yaml": [sys.executable, "-m", "kubernetes_validate", "--strict"],
    "Dockerfile": [str(Path(sys.executable).with_name("hadolint"))],
}
FAULTS = [  # a file, what stands there, what is written instead, and what must be said of it
    ("compose.yaml", "healthcheck:", "healtcheck:", "healtcheck"),
    ("compose.yaml", "interval: 5s", "interval: [5]", "interval"),
    ("compose.yaml", "condition: service_healthy", "condition: healthy", "condition"),
    ("agent/kubernetes.yaml", "serviceName:", "servicename:", "servicename"),
    ("agent/kubernetes.yaml", "runAsUser: 10001", "runAsUser: lmadapt", "runAsUser"),
    ("agent/kubernetes.yaml", " containers:", " container:", "containers"),
    ("Dockerfile", "USER 10001", "USER lmadapt", "DL3066"),
    ("Dockerfile", "python:3.12.11-slim-bookworm", "python", "DL3006"),
    ("Dockerfile", "WORKDIR /home", "WORKDIR home", "DL3000"),
]


def check(name: str, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CHECKS[name], str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", CHECKS)
def test_a_file_is_what_its_schema_or_its_linter_asks_for(name: str) -> None:
    done = check(name, INFRA / name)
    assert done.returncode == 0, done.stdout
    assert "WARN" not in done.stdout, (
        done.stdout
    )  # kubernetes-validate passes what it has no schema for


@pytest.mark.parametrize(("name", "right", "wrong", "said"), FAULTS)
def test_a_planted_fault_is_found(
    name: str, right: str, wrong: str, said: str, tmp_path: Path
) -> None:
    text = (INFRA / name).read_text()
    assert right in text
    (tmp_path / Path(name).name).write_text(text.replace(right, wrong))
    done = check(name, tmp_path / Path(name).name)
    assert done.returncode != 0
    assert said in done.stdout, done.stdout


def test_what_a_service_names_is_defined() -> None:
    compose = yaml.safe_load((INFRA / "compose.yaml").read_text())
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        assert {config["source"] for config in service.get("configs", [])} <= set(
            compose["configs"]
        )
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        named = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert {name for name in named if not name.startswith(".")} <= set(compose["volumes"])


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="needs docker-compose")
def test_docker_compose_reads_the_file_and_asks_for_each_variable() -> None:
    command = [
        str(shutil.which("docker-compose")),
        "-f",
        str(INFRA / "compose.yaml"),
        "config",
        "--quiet",
    ]
    asked = set(re.findall(r"\$\{(\w+):\?\}", (INFRA / "compose.yaml").read_text()))
    for missing in ("", *sorted(asked)):
        done = subprocess.run(
            command,
            env=dict.fromkeys(asked - {missing}, "x"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == (not missing), done.stderr
        assert missing in done.stderr
