"""Registering and serving the demo's adapter: `make bench-registry` in a project where the demo has run.

Peer: the same server (`transformers serve`) started by hand on the same folder.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai

from benchmarks.record import write_results
from lmadapt.core.dvc_graph import stage_paths
from lmadapt.core.environment import prepare_environment

REPETITIONS = 5
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


def main(project: Path) -> None:
    """Measure in a copy made of links, with a registry of its own, and write the results."""
    prepare_environment(offline=True)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as temp:
        copy = Path(temp) / "project"
        (copy / "metrics").mkdir(parents=True)
        for name in PROJECT_FILES:
            for file in (
                sorted((project / name).iterdir()) if name == "metrics" else [project / name]
            ):
                (copy / file.relative_to(project)).symlink_to(file)
        (copy / "metrics/register.json").unlink(missing_ok=True)
        os.chdir(copy)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{temp}/registry.db"
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        rows += registering(copy)
        rows += serving(Path(temp))
    medians = {row["measure"]: row["median"] for row in rows}
    serve_ratio = medians["lmadapt serve to first token"] / medians["bare server to first token"]
    write_results(
        "registry",
        {
            "register_seconds": round(
                medians["register"] - 2 * medians["load the base and adapter"], 2
            ),
            "noop_register_seconds": medians["register again, as a process"],
            "serve_start_vs_bare": round(serve_ratio, 3),
        },
        rows=rows,
        packages=["mlflow", "transformers", "torch", "peft", "bitsandbytes"],
        seeds=[],
        repetitions=REPETITIONS,
    )


def registering(copy: Path) -> list[dict[str, Any]]:
    """Load, register into registries that hold nothing, and register again what is registered."""
    from lmadapt.core.sections import load_section
    from lmadapt.models.loading import load_for_inference
    from stages.register import RegisterParams, register

    paths = stage_paths("register", Path(__file__).parents[1] / "dvc.yaml")
    params = load_section(RegisterParams, "register", copy / "params.yaml")
    load, first = [], []
    for number in range(REPETITIONS):
        load.append(
            timed(
                lambda: load_for_inference(
                    paths["pretrained"], precision="nf4", adapter=paths["adapter"]
                )
            )
        )
        mine = params.model_copy(update={"model_name": f"demo{number}"})
        first.append(timed(lambda mine=mine: register(mine, **paths)))
    command = [sys.executable, "-m", "stages.register"]
    for option, path in paths.items():
        command += [f"--{option}", str(path)]
    subprocess.run(command, check=True)
    again = [timed(lambda: subprocess.run(command, check=True)) for _ in range(REPETITIONS)]
    return [
        row("load the base and adapter", load),
        row("register", first),
        row("register again, as a process", again),
    ]


def serving(temp: Path) -> list[dict[str, Any]]:
    """From starting a server to the first token of an answer, ours and the bare one in turn."""
    from lmadapt.registry.connection import connect
    from lmadapt.registry.restore import assembled
    from lmadapt.registry.versions import downloaded, named_version

    name = "demo0"
    version = named_version(connect(os.environ["MLFLOW_TRACKING_URI"], temp), f"{name}@candidate")
    ours, bare = [], []
    with downloaded(version) as (shipped, config), assembled(shipped, config, name) as (folder, _):
        size = sum(file.stat().st_size for file in shipped.rglob("*") if file.is_file())
        program = str(Path(sys.executable).with_name("transformers"))
        by_hand = [
            program,
            "serve",
            name,
            "--host",
            "127.0.0.1",
            "--port",
            str(PORT),
            "--quantization",
            "bnb-4bit",
        ]
        through = [
            sys.executable,
            "-m",
            "lmadapt",
            "serve",
            f"{name}@candidate",
            "--port",
            str(PORT),
        ]
        for _ in range(REPETITIONS):
            ours.append(first_token(through, Path.cwd(), name))
            bare.append(first_token(by_hand, folder.parent, name))
    return [
        row("lmadapt serve to first token", ours),
        row("bare server to first token", bare),
        {"measure": "megabytes of a version", "median": round(size / 1e6, 2)},
    ]


def first_token(command: list[str], folder: Path, model: str) -> float:
    """Seconds from starting the command to the first piece of a streamed answer."""
    began = time.monotonic()
    environment = os.environ | {"HF_HUB_CACHE": str(folder)}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{PORT}/v1", api_key="-")
    try:
        while not listening():
            assert process.poll() is None, f"{command} ended"
            time.sleep(0.05)
        messages = [{"role": "user", "content": "What is a buffer overflow?"}]
        stream = client.chat.completions.create(
            model=model, messages=messages, max_tokens=8, stream=True
        )  # type: ignore[call-overload]
        next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
        return time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def listening() -> bool:
    """Whether something answers on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def row(measure: str, seconds: list[float]) -> dict[str, Any]:
    """One measured row, in seconds."""
    return {
        "measure": measure,
        "median": round(statistics.median(seconds), 2),
        "low": round(min(seconds), 2),
        "high": round(max(seconds), 2),
    }


if __name__ == "__main__":
    main(Path.cwd())
