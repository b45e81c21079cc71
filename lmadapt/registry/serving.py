"""Serving a version by a server that exists: vLLM where it is installed, else `transformers serve`; on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.core.errors import UserError
from lmadapt.core.files import read_json
from lmadapt.registry.restore import assembled
from lmadapt.registry.versions import downloaded, named_version

HOST = "127.0.0.1"
STOP_SECONDS = 20.0  # for answers under way, before a server is ended
CALL = 'openai.OpenAI(base_url="http://{}:{}/v1", api_key="-").chat.completions.create(model="{}", messages=[…])'


def serve(
    client: MlflowClient,
    reference: str,
    *,
    port: int,
    poll_seconds: float | None,
    say: Callable[[str], None],
) -> int:
    """Serve NAME@ALIAS or NAME/VERSION until the server ends or this process is told to; returns its exit code.

    With `poll_seconds` the alias is read that often, and where it moved the server restarted. Raises UserError when
    the port is in use, or the version or its base is not what was registered.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    version = named_version(client, reference)
    while True:
        code = _serve_one(client, reference, version, port, poll_seconds, say)
        if isinstance(code, int):
            return code
        version = code


def _serve_one(
    client: MlflowClient,
    reference: str,
    version: ModelVersion,
    port: int,
    poll_seconds: float | None,
    say: Callable[[str], None],
) -> int | ModelVersion:
    """The server's exit code, or the version that the alias moved to."""
    if version.tags.get("status") != "verified":
        raise UserError(
            f"{version.name} version {version.version} is not verified: it is not served"
        )
    require_free(port)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with (
        downloaded(version) as (shipped, config),
        assembled(shipped, config, version.name) as (folder, base),
    ):
        environment["HF_HUB_CACHE"] = str(folder.parent)
        command = server_command(version.name, port, shipped, base)
        process = subprocess.Popen(command, cwd=folder.parent, env=environment)
        say(
            f"{version.name} version {version.version}, once it is loaded: {CALL.format(HOST, port, version.name)}"
        )
        try:
            while True:
                try:
                    return process.wait(poll_seconds)
                except subprocess.TimeoutExpired:
                    if newer := _newer(client, reference, version, say):
                        return newer
        finally:
            _end(process)


def _newer(
    client: MlflowClient, reference: str, version: ModelVersion, say: Callable[[str], None]
) -> ModelVersion | None:
    """The version the alias moved to, if its files are what was registered; the one that runs goes on otherwise."""
    try:
        found = named_version(client, reference)
        if found.version == version.version:
            return None
        with downloaded(found) as (shipped, config), assembled(shipped, config):
            say(f"{reference} moved from version {version.version} to {found.version}: restarting")
            return found
    except UserError as error:
        say(f"{reference}: version {version.version} goes on: {error}")
        return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def server_command(name: str, port: int, shipped: Path, base: Path | None) -> list[str]:
    """The command that serves folder `name`, or where there is a `base` the adapter `shipped` over it, in 4 bits.

    Raises UserError when neither server is installed.
    """
    where = ["--host", HOST, "--port", str(port)]
    if vllm := shutil.which("vllm"):
        if base is None:
            return [vllm, "serve", name, *where]
        rank = str(read_json(shipped / "adapter_config.json")["r"])
        lora = ["--enable-lora", "--lora-modules", f"{name}={shipped}", "--max-lora-rank", rank]
        template = ["--chat-template", str(shipped / "chat_template.jinja")]
        return [
            vllm,
            "serve",
            str(base),
            *lora,
            *template,
            "--quantization",
            "bitsandbytes",
            *where,
        ]
    if missing := [
        module for module in ("fastapi", "uvicorn", "openai") if find_spec(module) is None
    ]:
        raise UserError(
            f"no server: install vllm, or {', '.join(missing)} (`pip install 'lmadapt[serve]'`)"
        )
    transformers = str(Path(sys.executable).with_name("transformers"))
    return [transformers, "serve", name, *where, *(["--quantization", "bnb-4bit"] if base else [])]


def require_free(port: int) -> None:
    """Raise UserError when something listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used: {error.strerror}; `--port` names another"
            ) from None
