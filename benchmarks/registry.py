"""Registering and serving the demo's adapter, against the same server started by hand.

Run it in a project where the demo has run. It works in a copy made of links, with a registry of its
own. Measures registering into an empty registry, registering again, and the time from starting a
server to the first token of an answer: `lmadapt serve`, and `transformers serve` by hand on the
same folder, in turn. A smoke run registers only; it starts no server.

Takes about 8 minutes on two cores; writes benchmarks/results/registry.json.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.record import benchmark_parser, write_results
from lmadapt.core.dvc_graph import stage_paths
from lmadapt.core.environment import prepare_environment
from lmadapt.core.sections import load_section
from stages.register import RegisterParams, register

ROOT = Path(__file__).parents[1]
PORT = 8731
PROJECT_FILES = (
    "models",
    "metrics",
    "reports",
    "params.yaml",
    "dvc.yaml",
    "dvc.lock",
    "requirements.lock",
)
Row = dict[str, Any]


def main() -> None:
    """Measure, and write the results."""
    parser = benchmark_parser("registry", __doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="of each measure (%(default)s)")
    arguments = parser.parse_args()
    prepare_environment(offline=True)
    with TemporaryDirectory() as temp:
        folder = Path(temp)
        if arguments.smoke:
            arguments.repetitions = 1
            project = make_small(folder)
        else:
            project = link_project(Path.cwd(), folder / "project")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{temp}/registry.db"
        os.environ["PYTHONPATH"] = str(ROOT)
        with chdir(project):
            measure(arguments, folder)


def make_small(folder: Path) -> Path:
    """A tiny project as training and evaluation leave it."""
    from tests.adapted import make_adapted_project
    from tests.tiny import make_tiny_model

    return make_adapted_project(folder / "project", make_tiny_model(folder / "tiny"))


def link_project(project: Path, copy: Path) -> Path:
    """A copy of the project made of links; its metrics are links one by one, without register's."""
    (copy / "metrics").mkdir(parents=True)
    for name in PROJECT_FILES:
        if name != "metrics":
            (copy / name).symlink_to(project / name)
    for file in (project / "metrics").iterdir():
        if file.name != "register.json":
            (copy / "metrics" / file.name).symlink_to(file)
    return copy


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Register, then serve; the working folder is the project."""
    params = load_section(RegisterParams, "register", Path("params.yaml"))
    rows = registering(params, arguments.repetitions)
    left_out = {"serving": "a smoke run starts no server"} if arguments.smoke else {}
    if not arguments.smoke:
        rows += serving(params.model_name, arguments.repetitions, folder)
    medians = {row["measure"]: row["median"] for row in rows}
    # Registering loads base and adapter twice; that time is not the registry's.
    loading = 2 * medians["load the base and adapter"]
    measurements = {
        "register_seconds": round(medians["register"] - loading, 2),
        "noop_register_seconds": medians["register again, as a process"],
    }
    if not arguments.smoke:
        ours, bare = (
            medians[f"{server} to first token"] for server in ("lmadapt serve", "bare server")
        )
        measurements["serve_start_vs_bare"] = round(ours / bare, 3)
    write_results(
        "registry",
        arguments,
        measurements,
        rows=rows,
        packages=["mlflow", "transformers", "torch", "peft", "bitsandbytes"],
        seeds=[],
        repetitions=arguments.repetitions,
        left_out=left_out,
    )


def registering(params: RegisterParams, repetitions: int) -> list[Row]:
    """Load the model, register it under new names, and register again what is registered."""
    from lmadapt.models.loading import load_for_inference

    paths = stage_paths("register", ROOT / "dvc.yaml")

    def load() -> object:
        return load_for_inference(paths["pretrained"], precision="nf4", adapter=paths["adapter"])

    loads, first = [], []
    for number in range(repetitions):
        loads.append(timed(load))
        name = params.model_name if number == 0 else f"{params.model_name}{number}"
        renamed = params.model_copy(update={"model_name": name})
        first.append(timed(lambda renamed=renamed: register(renamed, **paths)))
    command = [sys.executable, "-m", "stages.register"]
    for option, path in paths.items():
        command += [f"--{option}", str(path)]
    again = [timed(lambda: subprocess.run(command, check=True)) for _ in range(repetitions)]
    return [
        row("load the base and adapter", loads),
        row("register", first),
        row("register again, as a process", again),
    ]


def serving(name: str, repetitions: int, folder: Path) -> list[Row]:
    """From starting a server to the first token of an answer, ours and the bare one in turn."""
    from lmadapt.registry.connection import connect
    from lmadapt.registry.restore import assembled
    from lmadapt.registry.versions import downloaded, named_version

    client = connect(os.environ["MLFLOW_TRACKING_URI"], folder)
    version = named_version(client, f"{name}@candidate")
    ours, bare = [], []
    with downloaded(version) as (shipped, config), assembled(shipped, config, name) as (model, _):
        size = sum(file.stat().st_size for file in shipped.rglob("*") if file.is_file())
        transformers = str(Path(sys.executable).with_name("transformers"))
        by_hand = [transformers, "serve", name, "--host", "127.0.0.1", "--port", str(PORT)]
        by_hand += ["--quantization", "bnb-4bit"]
        through = [sys.executable, "-m", "lmadapt", "serve", f"{name}@candidate"]
        through += ["--port", str(PORT)]
        for _ in range(repetitions):
            ours.append(first_token(through, Path.cwd(), name))
            bare.append(first_token(by_hand, model.parent, name))
    return [
        row("lmadapt serve to first token", ours),
        row("bare server to first token", bare),
        {"measure": "megabytes of a version", "median": round(size / 1e6, 2)},
    ]


def first_token(command: list[str], folder: Path, model: str) -> float:
    """Seconds from starting the command to the first piece of a streamed answer."""
    import openai

    began = time.monotonic()
    environment = os.environ | {"HF_HUB_CACHE": str(folder)}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{PORT}/v1", api_key="-")
    try:
        while not listening():
            if process.poll() is not None:
                raise RuntimeError(f"{command} exited with {process.returncode}")
            time.sleep(0.05)
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "What is a buffer overflow?"}],
            max_tokens=8,
            stream=True,
        )  # type: ignore[call-overload]
        next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
        return time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def listening() -> bool:
    """Whether something listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def row(measure: str, seconds: list[float]) -> Row:
    """The median, lowest and highest of the measured seconds."""
    return {
        "measure": measure,
        "median": round(statistics.median(seconds), 2),
        "low": round(min(seconds), 2),
        "high": round(max(seconds), 2),
    }


if __name__ == "__main__":
    main()
