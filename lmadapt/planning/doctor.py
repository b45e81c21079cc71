"""Look over an installation and a project: what training needs, tried on a small scale, before hours are spent."""

import itertools
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pyarrow.parquet as pq

from lmadapt.core.environment import QUIET
from lmadapt.core.errors import UserError
from lmadapt.core.tables import CURATED_TABLES, INSTRUCTION, RAW_TABLES, read_table
from lmadapt.models.chat import IGNORED, Message, encode_conversation, encode_prompt

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
    checks = [
        _check("libraries", _libraries),
        _check("gpu", _gpu),
        _check("disk", _disk, project),
        _check("git and dvc", _versioning, project),
        _check("telemetry", _telemetry, project),
        _check("raw data", _tables, project / "data/raw", list(RAW_TABLES), "fetch"),
        _check("curated data", _tables, project / "data/curated", list(CURATED_TABLES), "curate"),
    ]
    folders = [project / "models" / name for name in ("base", "pretrained")]
    model = next((folder for folder in folders if (folder / "config.json").is_file()), None)
    if model is None:
        return [
            *checks,
            Check("model", "warning", "models/base is not there yet; `dvc repro fetch` makes it"),
        ]
    checks += [
        _check("template", _template, model, project),
        _check("label mask", _label_mask, model, project),
    ]
    return (
        [*checks, _check("gradient flow", _gradient_flow, model, project)] if gradient else checks
    )


def _check(name: str, look: Callable[..., str], *where: Any) -> Check:
    try:
        return Check(name, "ok", look(*where))
    except UserWarning as doubt:
        return Check(name, "warning", str(doubt))
    except (
        Exception
    ) as error:  # a broken model folder or installation is a finding, whatever it raises
        return Check(
            name,
            "failed",
            str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}",
        )


def _libraries() -> str:
    if missing := [name for name in LIBRARIES if find_spec(name) is None]:
        raise UserError(f"not installed: {', '.join(missing)}; install the extra `train`")
    return ", ".join(
        [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES)]
    )


def _gpu() -> str:
    if find_spec("torch") is None:
        raise UserWarning("unknown: torch is not installed")
    import torch

    if not torch.cuda.is_available():
        raise UserWarning(
            f"none; {os.cpu_count()} CPU cores will do for models under about a billion"
        )
    name = torch.cuda.get_device_name(0)
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"{name} has no bf16, in which models are trained; Ampere (2020) or newer has"
        )
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    return f"{torch.cuda.device_count()} x {name}, {gigabytes:.0f} GiB"


def _disk(project: Path) -> str:
    free = shutil.disk_usage(project).free / 1e9
    detail = f"{free:.0f} GB free; {MIN_FREE_GIGABYTES} GB are advisable"
    if free < MIN_FREE_GIGABYTES:
        raise UserWarning(detail)
    return detail


def _versioning(project: Path) -> str:
    if shutil.which("git") is None:
        raise UserError("`git` is not on the PATH")
    if find_spec("dvc") is None:
        raise UserError("dvc is not installed here; `make install` does it")
    inside = (
        subprocess.run(
            ["git", "rev-parse"], cwd=project, capture_output=True, check=False
        ).returncode
        == 0
    )
    for there, command in ((inside, "git init"), ((project / ".dvc").is_dir(), "dvc init")):
        if not there:
            raise UserError(f"{project} is not set up; `{command}` does it")
    return "both installed and initialised"


def _telemetry(project: Path) -> str:
    loud = [name for name, quiet in QUIET.items() if os.environ.get(name, quiet) != quiet]
    if find_spec("dvc") and (project / ".dvc").is_dir():
        from dvc.config import Config

        loud += (
            ["dvc config core.analytics"]
            if Config(str(project / ".dvc"))["core"].get("analytics", True)
            else []
        )
    if loud:
        raise UserWarning(f"not off: {', '.join(loud)}")
    return "off"


def _tables(folder: Path, names: list[str], stage: str) -> str:
    missing = [f"{name}.parquet" for name in names if not (folder / f"{name}.parquet").is_file()]
    if len(missing) == len(names):
        raise UserWarning(f"none in {folder} yet; `dvc repro {stage}` makes it")
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}")
    return ", ".join(
        f"{name} {pq.read_metadata(folder / f'{name}.parquet').num_rows}" for name in names
    )


def _conversations(project: Path) -> list[list[Message]]:
    for kind in ("curated", "raw"):
        table = project / "data" / kind / "instructions.parquet"
        if table.is_file():
            return [
                row["messages"] for row in read_table(table, INSTRUCTION).slice(0, 8).to_pylist()
            ] or [SAMPLE]
    return [SAMPLE]


def _template(model: Path, project: Path) -> str:
    from lmadapt.models.loading import load_tokenizer

    tokenizer = load_tokenizer(model)
    encoded = encode_conversation(tokenizer, _conversations(project)[0])
    pairs = zip(encoded.input_ids, encoded.labels, strict=True)
    marked = ""
    for supervised, group in itertools.groupby(pairs, key=lambda pair: pair[1] != IGNORED):
        text = tokenizer.decode([token for token, _ in group])
        marked += f"«{text}»" if supervised else text
    return f"the part that carries loss between « and »:\n{marked}"


def _label_mask(model: Path, project: Path) -> str:
    from lmadapt.models.loading import load_tokenizer

    tokenizer, conversation = load_tokenizer(model), _conversations(project)[0]
    encoded = encode_conversation(tokenizer, conversation)
    asked = next(
        turn for turn, message in enumerate(conversation) if message["role"] == "assistant"
    )
    prompt = len(encode_prompt(tokenizer, conversation[:asked]))
    if supervised_prompt := sum(label != IGNORED for label in encoded.labels[:prompt]):
        raise UserError(f"{supervised_prompt} of {prompt} prompt tokens carry loss; none should")
    if encoded.labels[-1] != tokenizer.eos_token_id:
        raise UserError("the end-of-turn token carries no loss: the model would not learn to stop")
    return f"{encoded.loss_tokens} of {len(encoded.labels)} tokens carry loss, the end of turn too, no prompt token does"


def _gradient_flow(model: Path, project: Path) -> str:
    from lmadapt.models.loading import load_tokenizer, load_unpacked_nf4
    from lmadapt.training.adapters import add_lora
    from lmadapt.training.callbacks import GRADIENT_CHECK_STEPS
    from lmadapt.training.loop import train
    from lmadapt.training.packing import pack

    tokenizer = load_tokenizer(model)
    encoded = [
        encode_conversation(tokenizer, conversation) for conversation in _conversations(project)
    ]
    shortest = min(encoded, key=lambda example: len(example.input_ids))
    rows = pack(
        [shortest] * GRADIENT_CHECK_STEPS, max_tokens=len(shortest.input_ids), rows_per_step=1
    )
    network = add_lora(load_unpacked_nf4(model), rank=4, alpha=8, seed=0)
    with TemporaryDirectory() as checkpoints:
        outcome = train(
            network, rows, rows_per_step=1, learning_rate=1e-3, checkpoints=Path(checkpoints)
        )
    losses = " -> ".join(f"{step['loss']:.2f}" for step in outcome.steps)
    return f"every trainable tensor gets a finite gradient in {len(rows)} steps of QLoRA; loss {losses}"
