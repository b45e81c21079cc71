"""Serving a version by a server that exists: vLLM where it is installed, else `transformers serve`; on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.base_reference import BaseReference, link_files, link_together, locate_base
from lmadapt.errors import UserError
from lmadapt.files import read_json
from lmadapt.registry import named_version, shipped_folder

HOST = "127.0.0.1"
STOP_SECONDS = 20.0  # for answers under way, before a server is ended


@dataclass(frozen=True)
class Prepared:
    """A model on disk that a server can be started on; entering it gives command and folder, leaving removes it."""

    command: list[str]
    folder: Path
    stack: ExitStack

    def __enter__(self) -> tuple[list[str], Path]:
        return self.command, self.folder

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def serve(
    client: MlflowClient,
    reference: str,
    *,
    port: int,
    follow: bool,
    poll_seconds: float = 10.0,
    say: Callable[[str], None] = print,
) -> int:
    """Serve NAME@ALIAS or NAME/VERSION until the server ends or this process is told to; returns its exit code.

    With `follow` the alias is read every `poll_seconds` and the server restarted where it moved; a version that
    cannot be served, or a registry that does not answer, leaves the server that runs as it is. Raises UserError when
    the port is in use or the version's files are not those that were registered.
    """
    require_free(port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    version = named_version(client, reference)
    prepared = _prepare(version, port)
    say(
        f"{version.name} version {version.version} at http://{HOST}:{port}/v1 once it is loaded:\n"
        f'  openai.OpenAI(base_url="http://{HOST}:{port}/v1", api_key="-").chat.completions.create('
        f'model="{version.name}", messages=[{{"role": "user", "content": "…"}}])'
    )
    while True:
        with prepared as (command, folder), _server(command, folder) as running:
            newer = _moved(client, reference, version, running, port, poll_seconds if follow else None, say)
            if newer is None:
                return running.returncode
        version, prepared = newer


def _moved(
    client: MlflowClient,
    reference: str,
    version: ModelVersion,
    running: "subprocess.Popen[bytes]",
    port: int,
    poll_seconds: float | None,
    say: Callable[[str], None],
) -> tuple[ModelVersion, Prepared] | None:
    """The version the alias moved to, ready to be served; None when the server ended before that."""
    while True:
        try:
            running.wait(poll_seconds)
            return None
        except subprocess.TimeoutExpired:
            pass
        try:
            newer = named_version(client, reference)
            if newer.version != version.version:
                prepared = _prepare(newer, port)
                say(f"{reference} moved from version {version.version} to {newer.version}: restarting")
                return newer, prepared
        except UserError as error:
            say(f"{reference}: version {version.version} goes on: {error}")


@contextmanager
def _server(command: list[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder)}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _prepare(version: ModelVersion, port: int) -> Prepared:
    """The server's command, and the folder to run it in, where the model lies under its own name."""
    if version.tags.get("status") != "verified":
        raise UserError(f"{version.name} version {version.version} is not verified: it is not served")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="lmadapt-serve-")))
        shipped = stack.enter_context(shipped_folder(version))
        model, adapter = folder / version.name, None
        model.mkdir()
        if (shipped / "adapter_config.json").is_file():
            adapter = locate_base(base_reference(shipped)), shipped
            link_together(shipped, adapter[0], model)
        else:
            link_files(shipped.iterdir(), model)
        return Prepared(server_command(version.name, port, adapter), folder, stack.pop_all())


def base_reference(shipped: Path) -> BaseReference:
    """What the MLmodel file beside the shipped weights says about their base."""
    from ruamel.yaml import YAML

    file = shipped.parent.parent / "MLmodel"
    config = YAML(typ="safe").load(file.read_text(encoding="utf-8"))["flavors"]["python_function"]["config"]
    return BaseReference(**{key: value for key, value in config.items() if key != "artifact_sha256"})


def server_command(name: str, port: int, adapter: tuple[Path, Path] | None) -> list[str]:
    """The command that serves folder `name`; `adapter`: base and adapter folder where it is not merged.

    The base of an adapter is quantised as it was in training. Raises UserError when neither server is installed.
    """
    where = ["--host", HOST, "--port", str(port)]
    if vllm := shutil.which("vllm"):
        if adapter is None:
            return [vllm, "serve", name, *where]
        base, shipped = adapter
        rank = str(read_json(shipped / "adapter_config.json")["r"])
        lora = ["--enable-lora", "--lora-modules", f"{name}={shipped}", "--max-lora-rank", rank]
        template = ["--chat-template", str(shipped / "chat_template.jinja")]
        return [vllm, "serve", str(base), *lora, *template, "--quantization", "bitsandbytes", *where]
    missing = [module for module in ("fastapi", "uvicorn", "openai") if find_spec(module) is None]
    if missing:
        raise UserError(f"no server: install vllm, or {', '.join(missing)} (`pip install 'lmadapt[serve]'`)")
    transformers = Path(sys.executable).with_name("transformers")
    return [str(transformers), "serve", name, *where, *(["--quantization", "bnb-4bit"] if adapter else [])]


def require_free(port: int) -> None:
    """Raise UserError when something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} cannot be used: {error.strerror}; `--port` names another") from None
