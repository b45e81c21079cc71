"""Serves a version on loopback by an existing server: vLLM, or else `transformers serve`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.core.errors import UserError
from lmadapt.core.files import read_json
from lmadapt.registry.restore import assembled, served_precision
from lmadapt.registry.versions import downloaded, named_version

HOST = "127.0.0.1"
STOP_SECONDS = 20.0  # for answers under way, before the server is killed
CLIENT = 'openai.OpenAI(base_url="http://{host}:{port}/v1", api_key="-")'
CALL = CLIENT + '.chat.completions.create(model="{name}", messages=[…])'


@dataclass(frozen=True)
class Serving:
    """What is served, where, and how its alias is followed."""

    client: MlflowClient
    reference: str  # NAME@ALIAS or NAME/NUMBER
    port: int
    poll_seconds: float | None  # how often the alias is read; None: never
    say: Callable[[str], None]  # prints a line for the user


def serve(serving: Serving) -> int:
    """Serve a version until its server stops or this process gets SIGTERM; the exit code.

    With `poll_seconds` the server is restarted with the new version whenever the alias moves.
    Raises UserError when the port is in use, or when the version or its base is not what was
    registered.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    served = named_version(serving.client, serving.reference)
    while True:
        outcome = _serve_version(serving, served)
        if isinstance(outcome, int):
            return outcome
        served = outcome


def _serve_version(serving: Serving, version: ModelVersion) -> int | ModelVersion:
    """The server's exit code, or the version that the alias moved to."""
    name, port = version.name, serving.port
    if version.tags.get("status") != "verified":
        raise UserError(f"{name} version {version.version} is not verified, so it is not served")
    require_free(port)
    with (
        downloaded(version) as (shipped, config),
        assembled(shipped, config, name) as (folder, base),
    ):
        quantised = served_precision(config) == "nf4"
        command = server_command(name, port, shipped, base, quantised=quantised)
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder.parent)}
        process = subprocess.Popen(command, cwd=folder.parent, env=environment)
        call = CALL.format(host=HOST, port=port, name=name)
        serving.say(f"{name} version {version.version} is loading; then call it with {call}")
        try:
            return _wait(serving, version, process)
        finally:
            _stop(process)


def _wait(
    serving: Serving, version: ModelVersion, process: "subprocess.Popen[bytes]"
) -> int | ModelVersion:
    """Wait until the server stops or the alias moves."""
    while True:
        try:
            return process.wait(serving.poll_seconds)
        except subprocess.TimeoutExpired:
            if newer := _newer(serving, version):
                return newer


def _newer(serving: Serving, version: ModelVersion) -> ModelVersion | None:
    """The version that the alias moved to; None when it did not move.

    None too when that version cannot be read or is not what was registered: then the present one
    is served on.
    """
    try:
        found = named_version(serving.client, serving.reference)
        if found.version == version.version:
            return None
        with downloaded(found) as (shipped, config), assembled(shipped, config):
            serving.say(
                f"{serving.reference} moved from version {version.version} to {found.version}: "
                "restarting"
            )
            return found
    except UserError as error:
        serving.say(f"{serving.reference}: still serving version {version.version}: {error}")
        return None


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def server_command(
    name: str, port: int, shipped: Path, base: Path | None, *, quantised: bool
) -> list[str]:
    """The command that serves the folder `name` in the working folder.

    When there is a `base`, the command serves the adapter in `shipped` over it. With `quantised`,
    the weights are put into 4 bits when they are loaded. Raises UserError when no server is
    installed.
    """
    address = ["--host", HOST, "--port", str(port)]
    if vllm := shutil.which("vllm"):
        four_bits = ["--quantization", "bitsandbytes"] if quantised else []
        if base is None:
            return [vllm, "serve", name, *four_bits, *address]
        adapter = _vllm_adapter_options(name, shipped)
        return [vllm, "serve", str(base), *adapter, *four_bits, *address]
    missing = [module for module in ("fastapi", "uvicorn", "openai") if find_spec(module) is None]
    if missing:
        raise UserError(
            f"no server is installed: install vllm, or {', '.join(missing)} "
            "(`pip install 'lmadapt[serve]'`)"
        )
    transformers = str(Path(sys.executable).with_name("transformers"))
    four_bits = ["--quantization", "bnb-4bit"] if quantised else []
    return [transformers, "serve", name, *address, *four_bits]


def _vllm_adapter_options(name: str, shipped: Path) -> list[str]:
    """vLLM's options for an adapter in `shipped` over a base."""
    rank = read_json(shipped / "adapter_config.json")["r"]
    return [
        "--enable-lora",
        "--lora-modules",
        f"{name}={shipped}",
        "--max-lora-rank",
        str(rank),
        "--chat-template",
        str(shipped / "chat_template.jinja"),
    ]


def require_free(port: int) -> None:
    """Raise UserError when something already listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used: {error.strerror}; choose another with `--port`"
            ) from None
