"""The files for containers and clusters fit their schemas, and the checks find planted faults.

All offline: compose.yaml against the Compose Specification's schema (in check-jsonschema), the
manifest against Kubernetes' (in kubernetes-validate), and the Dockerfile through hadolint.
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
FAULTS = [  # a file, its text, the faulty text, and a word of the message
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
def test_a_file_passes_its_schema_or_linter(name: str) -> None:
    done = check(name, INFRA / name)
    assert done.returncode == 0, done.stdout
    # kubernetes-validate only warns about what it has no schema for.
    assert "WARN" not in done.stdout, done.stdout


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


def test_services_name_only_what_is_defined() -> None:
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
def test_docker_compose_accepts_the_file_and_requires_each_variable() -> None:
    program, file = str(shutil.which("docker-compose")), str(INFRA / "compose.yaml")
    command = [program, "-f", file, "config", "--quiet"]
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
