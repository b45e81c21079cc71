"""A copy of this project in a temporary folder, with a tiny model and small data, for `dvc`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from lmadapt.core.recipes import use_recipe
from tests.forked_python import forked_python

ROOT = Path(__file__).parents[1]
WORDS = [
    "buffer",
    "query",
    "token",
    "header",
    "cookie",
    "script",
    "path",
    "kernel",
    "socket",
    "thread",
    "memory",
    "packet",
    "cipher",
    "parser",
    "handler",
]
FAULTS = ["overflow", "injection", "leak", "race", "bypass", "confusion", "exhaustion", "traversal"]
COLOURS = ["red", "green", "blue", "black", "white", "amber", "violet", "orange", "crimson", "grey"]
SMALL = {
    "curate": {"heldout_fraction": 0.2},
    "validate": {
        "min_corpus_documents": 20,
        "min_instructions": 20,
        "min_domain_items": 30,
        "min_general_items": 60,
        "min_items_per_category": 30,
        "min_general_categories": 2,
    },
    "pretrain": {
        "max_tokens": 2000,
        "max_sequence_tokens": 128,
        "batch_tokens": 512,
        "lora_rank": 4,
    },
    "sft": {"max_tokens": 1500, "max_sequence_tokens": 128, "batch_tokens": 256, "lora_rank": 4},
    "evaluate": {"heldout_tokens": 500, "max_new_tokens": 4},
    "register": {"model_name": "tiny"},
}


def make_project(folder: Path, model: Path) -> Path:
    """Copy the tracked files of this project into a git repository with small data and params."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    _copy_compiled(folder)
    use_recipe("demo-cpu", ROOT / "recipes", folder / "params.yaml", force=True)
    write_data(folder / "data/own")
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    set_params(folder, SMALL)
    sources: dict[str, Any] = {
        role: [{"path": f"data/own/{role}.jsonl"}]
        for role in ("corpus", "instructions", "general_text", "general_instructions", "evaluation")
    }
    origin = {"name_or_path": str(model), "module": None, "sha256": None}
    set_params(folder, {"fetch": {"model": origin, "packages": {}, "sources": sources}})
    return folder


def _copy_compiled(folder: Path) -> None:
    """Copy what numba has compiled: curation would else compile for half a minute."""
    for file in (ROOT / "lmadapt").rglob("__pycache__/*.nb[ic]"):
        target = folder / file.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(file, target)


def set_params(folder: Path, changes: dict[str, Any]) -> None:
    """Merge `changes` into params.yaml key by key; `packages` and `sources` are replaced whole."""
    file = folder / "params.yaml"
    params = yaml.safe_load(file.read_text())
    _merge(params, changes)
    file.write_text(yaml.safe_dump(params, sort_keys=False))


def _merge(into: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if (
            isinstance(value, dict)
            and isinstance(into.get(key), dict)
            and key not in {"packages", "sources"}
        ):
            _merge(into[key], value)
        else:
            into[key] = value


def dvc(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run dvc in the project as a user would, offline; output and errors together in `stdout`.

    pip finds packages in the project's folder `wheels` and nowhere else.
    """
    own = {
        "PATH": f"{forked_python()}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder / "wheels"),
    }
    return python(folder, "dvc", *arguments, stderr=subprocess.STDOUT, **own | variables)


def python(
    folder: Path, module: str, *arguments: str, stderr: int = subprocess.PIPE, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE` in the project, with the project's own modules."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **variables}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(
        [forked_python() / "python", "-m", module, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=False,
    )


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_data(folder: Path) -> None:
    """Write small but sound data for each role: distinct texts, and no item in the instructions."""
    write_lines(
        folder / "corpus.jsonl",
        [{"text": _weakness(i), "entity": f"weakness {i}"} for i in range(90)],
    )
    write_lines(
        folder / "general_text.jsonl",
        [{"text": _story(i), "entity": f"story {i}"} for i in range(60)],
    )
    write_lines(folder / "instructions.jsonl", [_instruction(i) for i in range(60)])
    write_lines(folder / "general_instructions.jsonl", [_sum(i) for i in range(60)])
    items = [_item(i, "domain", "weaknesses", FAULTS) for i in range(40)]
    items += [
        _item(i, "general", category, COLOURS)
        for category in ("colours", "shades")
        for i in range(40)
    ]
    items.append(
        {
            "group": "behaviour",
            "category": "instruction following",
            "prompt": "Say yes and nothing else.",
            "check": json.dumps({"kind": "regex", "pattern": "(?i)yes"}),
            "severity": "minor",
        }
    )
    write_lines(folder / "evaluation.jsonl", items)


def _weakness(i: int) -> str:
    a, b, c = WORDS[i % 15], WORDS[(7 * i + 3) % 15], FAULTS[i % 8]
    return (
        f"In product number {i} the {a} reaches the {b} before any check, "
        f"which ends in a {c} of kind {i * 17 % 101}. "
        f"An attacker at port {i * 31 % 997} may repeat the {c} {i + 2} times until the {b} fails."
    )


def _story(i: int) -> str:
    a, b = COLOURS[i % 10], COLOURS[(3 * i + 1) % 10]
    return (
        f"On day {i} the {a} boat met a {b} lighthouse, {i * 13 % 89} miles from home, "
        f"and its crew of {i + 3} sang. They had rowed for {i * 7 % 53} hours under a {b} sky "
        f"and were glad of {i * 11 % 61} warm loaves."
    )


def _instruction(i: int) -> dict[str, Any]:
    question = f"What happens when the {WORDS[i % 15]} number {i} is never checked?"
    return {
        "question": question,
        "answer": f"A {FAULTS[i % 8]} with code {i * 7}.",
        "entity": f"lesson {i}",
    }


def _sum(i: int) -> dict[str, Any]:
    return {
        "question": f"How much is {i} and {i * 3 + 1} together?",
        "answer": f"It is {i * 4 + 1}.",
        "entity": f"s{i}",
    }


def _item(i: int, group: str, category: str, answers: list[str]) -> dict[str, Any]:
    return {
        "group": group,
        "category": category,
        "entity": f"{category} {i}",
        "prompt": f"Which of the {category} belongs to the mark {i * 19 % 211} in row {i}?",
        "choices": [answers[(i + shift) % len(answers)] for shift in range(4)],
        "answer": i % 4,
    }
