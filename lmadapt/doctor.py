"""Look over an installation and a project: what training needs, tried on a small scale, before hours are spent."""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from lmadapt.chat import IGNORED, Encoded, Message, encode_conversation, encode_prompt
from lmadapt.environment import QUIET
from lmadapt.errors import UserError
from lmadapt.records import CURATED_TABLES, INSTRUCTION, RAW_TABLES, read_table

Outcome = Literal["ok", "warning", "failed"]

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
MIN_FREE_GIGABYTES = 10  # the demo's environment and artifacts take about 6
SAMPLE: list[Message] = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris"},
]
"""Shown and trained on where the project has no instructions yet."""


@dataclass(frozen=True)
class Check:
    """One thing looked at; `failed` stops a training, `warning` does not, `detail` says what to do."""

    name: str
    outcome: Outcome
    detail: str


def diagnose(project: Path, *, gradient: bool = True) -> list[Check]:
    """Check environment, data, template, label mask and (with `gradient`: half a minute for a small model) training.

    Works before any stage ran: it uses what there is and says what is missing. Never raises for what it finds.
    """
    checks = [_python(), _libraries(), _gpu(), _disk(project), _versioning(project), _telemetry(project)]
    checks += [_tables(project, "raw", list(RAW_TABLES)), _tables(project, "curated", list(CURATED_TABLES))]
    model = next((f for f in _model_folders(project) if (f / "config.json").is_file()), None)
    if model is None:
        return [*checks, Check("model", "warning", "models/base is not there yet; `dvc repro fetch` makes it")]
    checks += [_guarded("template", lambda: _template(model, project))]
    checks += [_guarded("label mask", lambda: _label_mask(model, project))]
    if gradient:
        checks += [_guarded("gradient flow", lambda: _gradient_flow(model, project))]
    return checks


def _model_folders(project: Path) -> Iterator[Path]:
    return (project / "models" / name for name in ("base", "pretrained"))


def _guarded(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", check())
    except UserError as error:
        return Check(name, "failed", str(error))
    except Exception as error:  # a broken model folder or installation is a finding, whatever it raises
        return Check(name, "failed", f"{type(error).__name__}: {error}")


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info >= (3, 11)
    return Check("python", "ok" if fits else "failed", found if fits else f"{found}; 3.11 or newer is needed")


def _libraries() -> Check:
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("libraries", "failed", f"not installed: {', '.join(missing)}; install the extra `train`")
    return Check("libraries", "ok", ", ".join(found))


def _gpu() -> Check:
    try:
        import torch
    except ImportError:
        return Check("gpu", "warning", "unknown: torch is not installed")
    if not torch.cuda.is_available():
        return Check("gpu", "warning", f"none; {os.cpu_count()} CPU cores will do for models under about a billion")
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(0)
        return Check("gpu", "failed", f"{name} has no bf16, in which models are trained; Ampere (2020) or newer has")
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    return Check("gpu", "ok", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {gigabytes:.0f} GiB")


def _disk(project: Path) -> Check:
    free = shutil.disk_usage(project).free / 1e9
    enough = free >= MIN_FREE_GIGABYTES
    return Check("disk", "ok" if enough else "warning", f"{free:.0f} GB free; {MIN_FREE_GIGABYTES} GB are advisable")


def _versioning(project: Path) -> Check:
    if shutil.which("git") is None:
        return Check("git and dvc", "failed", "`git` is not on the PATH")
    if find_spec("dvc") is None:
        return Check("git and dvc", "failed", "dvc is not installed here; `make install` does it")
    inside = subprocess.run(["git", "rev-parse"], cwd=project, capture_output=True, check=False).returncode == 0
    for there, command in ((inside, "git init"), ((project / ".dvc").is_dir(), "dvc init")):
        if not there:
            return Check("git and dvc", "failed", f"{project} is not set up; `{command}` does it")
    return Check("git and dvc", "ok", "both installed and initialised")


def _telemetry(project: Path) -> Check:
    loud = [name for name, quiet in QUIET.items() if os.environ.get(name, quiet) != quiet]
    command = [sys.executable, "-m", "dvc", "config", "core.analytics"]
    if find_spec("dvc") and (project / ".dvc").is_dir():
        answer = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False).stdout.strip()
        loud += ["dvc config core.analytics"] if answer.lower() != "false" else []
    return Check("telemetry", "warning" if loud else "ok", f"not off: {', '.join(loud)}" if loud else "off")


def _tables(project: Path, kind: str, names: list[str]) -> Check:
    folder = project / "data" / kind
    missing = [name for name in names if not (folder / f"{name}.parquet").is_file()]
    if len(missing) == len(names):
        stage = {"raw": "fetch", "curated": "curate"}[kind]
        return Check(f"{kind} data", "warning", f"none in {folder} yet; `dvc repro {stage}` makes it")
    if missing:
        return Check(f"{kind} data", "failed", f"{folder} lacks {', '.join(f'{name}.parquet' for name in missing)}")
    counts = {name: pq.read_metadata(folder / f"{name}.parquet").num_rows for name in names}
    return Check(f"{kind} data", "ok", ", ".join(f"{name} {count}" for name, count in counts.items()))


def _conversations(project: Path) -> list[list[Message]]:
    for kind in ("curated", "raw"):
        table = project / "data" / kind / "instructions.parquet"
        if table.is_file():
            return [row["messages"] for row in read_table(table, INSTRUCTION).slice(0, 8).to_pylist()] or [SAMPLE]
    return [SAMPLE]


def _encoded(model: Path, project: Path) -> tuple[Any, list[Message], Encoded]:
    from lmadapt.models import load_tokenizer

    tokenizer = load_tokenizer(model)
    conversation = _conversations(project)[0]
    return tokenizer, conversation, encode_conversation(tokenizer, conversation)


def _template(model: Path, project: Path) -> str:
    tokenizer, _, encoded = _encoded(model, project)
    pairs = zip(encoded.input_ids, encoded.labels, strict=True)
    marked = ""
    for supervised, group in itertools.groupby(pairs, key=lambda pair: pair[1] != IGNORED):
        text = tokenizer.decode([token for token, _ in group])
        marked += f"«{text}»" if supervised else text
    return f"the part that carries loss between « and »:\n{marked}"


def _label_mask(model: Path, project: Path) -> str:
    tokenizer, conversation, encoded = _encoded(model, project)
    asked = next(turn for turn, message in enumerate(conversation) if message["role"] == "assistant")
    prompt = len(encode_prompt(tokenizer, conversation[:asked]))
    supervised_prompt = sum(label != IGNORED for label in encoded.labels[:prompt])
    if supervised_prompt:
        raise UserError(f"{supervised_prompt} of {prompt} prompt tokens carry loss; none should")
    if encoded.labels[-1] != tokenizer.eos_token_id:
        raise UserError("the end-of-turn token carries no loss: the model would not learn to stop")
    return (
        f"{encoded.loss_tokens} of {len(encoded.labels)} tokens carry loss, the end of turn too, no prompt token does"
    )


def _gradient_flow(model: Path, project: Path) -> str:
    import torch

    from lmadapt.adapters import add_lora
    from lmadapt.callbacks import GRADIENT_CHECK_STEPS
    from lmadapt.models import load_tokenizer, load_unpacked_nf4
    from lmadapt.packing import pack
    from lmadapt.training import train

    tokenizer = load_tokenizer(model)
    encoded = [encode_conversation(tokenizer, conversation) for conversation in _conversations(project)]
    shortest = min(encoded, key=lambda example: len(example.input_ids))
    rows = pack([shortest] * GRADIENT_CHECK_STEPS, max_tokens=len(shortest.input_ids), rows_per_step=1)
    network = add_lora(load_unpacked_nf4(model), rank=4, alpha=8, seed=0)
    with torch.no_grad():
        network(input_ids=torch.tensor([shortest.input_ids], device=network.device))  # in evaluation mode, first
    with tempfile.TemporaryDirectory() as checkpoints:
        outcome = train(
            network,
            rows,
            rows_per_step=1,
            learning_rate=1e-3,
            lr_schedule="constant",
            warmup_fraction=0.0,
            weight_decay=0.0,
            seed=0,
            checkpoints=Path(checkpoints),
        )
    losses = " -> ".join(f"{step['loss']:.2f}" for step in outcome.steps)
    return f"every trainable tensor gets a finite gradient in {len(rows)} steps of QLoRA; loss {losses}"
