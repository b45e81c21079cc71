"""Check an installation and a project: what training needs, tried small before hours are spent."""

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
from lmadapt.core.sections import load_section, read_params
from lmadapt.core.tables import CURATED_TABLES, INSTRUCTION, RAW_TABLES, read_table
from lmadapt.models.chat import IGNORED, Message, encode_conversation, encode_prompt, end_of_turn
from lmadapt.planning.exam_plan import items_of_tables
from lmadapt.verdict.exam_power import Assumed, ExamSettings, exam_power, plan_items

CheckStatus = Literal["ok", "warning", "failed"]

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
MIN_FREE_GIGABYTES = 10  # the demo's environment and artifacts take about 6
DRAWS = 200  # of answers to the exam
MAX_CONVERSATIONS = 8  # of the project that are encoded
# Used where the project has no instructions yet:
SAMPLE: list[Message] = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris"},
]


@dataclass(frozen=True)
class Finding:
    """What a look at one thing found, where it did not fail."""

    status: CheckStatus
    detail: str


@dataclass(frozen=True)
class Check:
    """The result of one check; `failed` stops a training, `warning` does not.

    Where the status is not `ok`, `detail` says what to do.
    """

    name: str
    status: CheckStatus
    detail: str


def diagnose(project: Path, *, gradient: bool = True) -> list[Check]:
    """Check environment, data, chat template, label mask and (with `gradient`) a short training.

    The training takes half a minute for a small model. Before any stage has run, the checks use
    what is there and say what is missing. Whatever they find, this raises no error.
    """
    raw, curated = project / "data/raw", project / "data/curated"
    checks = [
        _check("libraries", _libraries),
        _check("gpu", _gpu),
        _check("disk", _disk, project),
        _check("git and dvc", _versioning, project),
        _check("telemetry", _telemetry, project),
        _check("raw data", _tables, raw, list(RAW_TABLES), "fetch"),
        _check("curated data", _tables, curated, list(CURATED_TABLES), "curate"),
        _check("what is compared", _compared, project),
        _check("exam", _exam, project),
    ]
    folders = [project / "models" / name for name in ("base", "pretrained")]
    model = next((folder for folder in folders if (folder / "config.json").is_file()), None)
    if model is None:
        missing = "models/base is not there yet; `dvc repro fetch` makes it"
        return [*checks, Check("model", "warning", missing)]
    checks.append(_check("template", _template, model, project))
    checks.append(_check("label mask", _label_mask, model, project))
    if gradient:
        checks.append(_check("gradient flow", _gradient_flow, model, project))
    return checks


def _check(name: str, look: Callable[..., Finding], *where: Any) -> Check:
    try:
        finding = look(*where)
    except UserError as error:
        return Check(name, "failed", str(error))
    except Exception as error:  # a broken installation or model folder may raise anything
        return Check(name, "failed", f"{type(error).__name__}: {error}")
    return Check(name, finding.status, finding.detail)


def _ok(detail: str) -> Finding:
    return Finding("ok", detail)


def _warning(detail: str) -> Finding:
    return Finding("warning", detail)


def _libraries() -> Finding:
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}; install the extra `train`")
    versions = [f"{name} {version(name)}" for name in LIBRARIES]
    return _ok(", ".join([f"python {platform.python_version()}", *versions]))


def _gpu() -> Finding:
    if find_spec("torch") is None:
        return _warning("unknown: torch is not installed")
    import torch

    if not torch.cuda.is_available():
        return _warning(
            f"none; {os.cpu_count()} CPU cores suffice for models below about a billion parameters"
        )
    name = torch.cuda.get_device_name(0)
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"{name} has no bf16, in which models are trained; Ampere (2020) or newer has it"
        )
    gibibytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    return _ok(f"{torch.cuda.device_count()} x {name}, {gibibytes:.0f} GiB")


def _disk(project: Path) -> Finding:
    free = shutil.disk_usage(project).free / 1e9
    detail = f"{free:.0f} GB free; {MIN_FREE_GIGABYTES} GB are advisable"
    return _warning(detail) if free < MIN_FREE_GIGABYTES else _ok(detail)


def _versioning(project: Path) -> Finding:
    if shutil.which("git") is None:
        raise UserError("`git` is not on the PATH")
    if find_spec("dvc") is None:
        raise UserError("dvc is not installed here; `make install` installs it")
    git = subprocess.run(["git", "rev-parse"], cwd=project, capture_output=True, check=False)
    if git.returncode != 0:
        raise UserError(f"{project} is not a git repository; `git init` makes it one")
    if not (project / ".dvc").is_dir():
        raise UserError(f"{project} is not a DVC project; `dvc init` makes it one")
    return _ok("both installed and initialised")


def _telemetry(project: Path) -> Finding:
    loud = [name for name, quiet in QUIET.items() if os.environ.get(name, quiet) != quiet]
    if find_spec("dvc") and (project / ".dvc").is_dir():
        from dvc.config import Config

        if Config(str(project / ".dvc"))["core"].get("analytics", True):
            loud.append("dvc config core.analytics")
    return _warning(f"not off: {', '.join(loud)}") if loud else _ok("off")


def _tables(folder: Path, names: list[str], stage: str) -> Finding:
    files = {name: folder / f"{name}.parquet" for name in names}
    missing = [file.name for file in files.values() if not file.is_file()]
    if len(missing) == len(files):
        return _warning(f"none in {folder} yet; `dvc repro {stage}` makes them")
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}; `dvc repro {stage}` makes them")
    rows = {name: pq.read_metadata(file).num_rows for name, file in files.items()}
    return _ok(", ".join(f"{name} {count}" for name, count in rows.items()))


def _compared(project: Path) -> Finding:
    """Whether the verdict can be about what will be served, against the model in use now."""
    if not (project / "params.yaml").is_file():
        return _warning("params.yaml is not there yet; `lmadapt use` writes it")
    params = read_params(project / "params.yaml")
    evaluate, artifact = params["evaluate"], params["register"]["artifact"]
    if artifact == "adapter" and params["sft"]["method"] == "full":
        raise UserError(
            "register.artifact is adapter, but sft.method: full trains no adapter; set "
            "register.artifact to merged"
        )
    reference, registered = evaluate["reference"], evaluate["reference"].startswith("models:/")
    folder = project / reference
    if reference != "base" and not registered and not (folder / "config.json").is_file():
        raise UserError(
            f"evaluate.reference: {reference}: no model here (config.json is missing); allowed: "
            "base, models:/NAME@ALIAS, or a folder with a whole model"
        )
    runs = "its own precision" if registered else evaluate["reference_precision"]
    served = f"{artifact} in {evaluate['precision']}"
    return _ok(f"{served}, which will be served, with {reference} in {runs}")


def _exam(project: Path) -> Finding:
    """Whether the project's items can decide about a model that lost nothing."""
    items, file = items_of_tables(project), project / "params.yaml"
    if items is None or not file.is_file():
        return _warning("no items and margins yet; `lmadapt plan --exam` can read the sources")
    settings = load_section(ExamSettings, "evaluate", file)
    power = exam_power(plan_items(items.rows, settings), settings, Assumed(draws=DRAWS))
    if power.undecidable:
        raise UserError(f"{power.undecidable}; `lmadapt plan --exam` shows each question")
    if power.impassable:
        names = ", ".join(one.name for one in power.impassable)
        return _warning(
            f"too few items to pass unless they gain: {names}; `lmadapt plan --exam` says how many "
            "are needed"
        )
    return _warning(power.chance) if power.unlikely else _ok(power.chance)


def _conversations(project: Path) -> list[list[Message]]:
    """Up to MAX_CONVERSATIONS of the project's instructions, curated before raw; else SAMPLE."""
    for kind in ("curated", "raw"):
        file = project / "data" / kind / "instructions.parquet"
        if file.is_file():
            rows = read_table(file, INSTRUCTION).slice(0, MAX_CONVERSATIONS).to_pylist()
            return [row["messages"] for row in rows] or [SAMPLE]
    return [SAMPLE]


def _template(model: Path, project: Path) -> Finding:
    from lmadapt.models.loading import load_tokenizer

    tokenizer = load_tokenizer(model)
    encoded = encode_conversation(tokenizer, _conversations(project)[0])
    pairs = zip(encoded.input_ids, encoded.labels, strict=True)
    marked = ""
    for has_loss, group in itertools.groupby(pairs, key=lambda pair: pair[1] != IGNORED):
        text = tokenizer.decode([token for token, _ in group])
        marked += f"«{text}»" if has_loss else text
    return _ok(f"the part between « and » carries loss:\n{marked}")


def _label_mask(model: Path, project: Path) -> Finding:
    from lmadapt.models.loading import load_tokenizer

    tokenizer = load_tokenizer(model)
    conversation = _conversations(project)[0]
    encoded = encode_conversation(tokenizer, conversation)
    roles = [message["role"] for message in conversation]
    prompt = len(encode_prompt(tokenizer, conversation[: roles.index("assistant")]))
    prompt_with_loss = sum(label != IGNORED for label in encoded.labels[:prompt])
    if prompt_with_loss:
        raise UserError(f"{prompt_with_loss} of {prompt} prompt tokens carry loss; allowed: 0")
    if encoded.labels[-1] != end_of_turn(tokenizer):
        raise UserError("the end-of-turn token carries no loss: the model would not learn to stop")
    return _ok(
        f"{encoded.loss_tokens} of {len(encoded.labels)} tokens carry loss, with the end of turn "
        "and without the prompt"
    )


def _gradient_flow(model: Path, project: Path) -> Finding:
    from lmadapt.models.loading import load_tokenizer, load_unpacked_nf4
    from lmadapt.training.adapters import add_lora
    from lmadapt.training.gradient_check import CHECKED_STEPS
    from lmadapt.training.loop import train
    from lmadapt.training.packing import pack
    from lmadapt.training.trainer import TrainSettings

    tokenizer = load_tokenizer(model)
    encoded = [encode_conversation(tokenizer, messages) for messages in _conversations(project)]
    shortest = min(encoded, key=lambda example: len(example.input_ids))
    rows = pack([shortest] * CHECKED_STEPS, max_tokens=len(shortest.input_ids), rows_per_step=1)
    network = add_lora(load_unpacked_nf4(model), rank=4, alpha=8, seed=0)
    settings = TrainSettings(rows_per_step=1, learning_rate=1e-3)
    with TemporaryDirectory() as checkpoints:
        result = train(network, rows, settings, checkpoints=Path(checkpoints))
    losses = " -> ".join(f"{step['loss']:.2f}" for step in result.steps)
    steps = f"{len(rows)} steps of QLoRA"
    return _ok(f"every trainable tensor gets a finite gradient in {steps}; loss {losses}")
