"""Results of Inspect: its logs, .eval (a zip archive) or .json.

A log has a header (`status`, `eval`, `results`) and samples with `id`, `epoch`, `input`, `target`
and `scores` by scorer (inspect_ai/log/_log.py, log version 2). Inspect compresses archives with
Zstandard, which Python's zipfile cannot read before 3.14.
"""

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.core.files import read_json
from lmadapt.sources.item_scores import (
    Choice,
    ItemScore,
    Results,
    checked_score,
    content_hash,
    first_names,
    text_field,
)

# What Inspect's own `value_to_float` makes of grades.
GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
ZSTANDARD = 93  # the compression method, in APPNOTE.TXT of PKWARE
LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra field
NOT_PART = ("id", "internal", "source", "model", "metadata")  # of what a message says

Sample = Mapping[str, Any]


def read_inspect(path: Path, choice: Choice) -> Results:
    """The scores in a log, or in all logs in a folder and below it.

    Raises UserError naming file and sample: a log that is no complete success, two logs of one
    task, samples without a score, several scorers and none chosen, a value that is no score.
    """
    items: list[ItemScore] = []
    logs: dict[str, Path] = {}
    scored_by: dict[str, str] = {}
    notes: list[str] = []
    for file in _log_files(path):
        header, samples = _open_log(file)
        task = header["eval"]["task"]
        if task in logs:
            raise UserError(
                f"{path}: two logs are of the task {task}: {logs[task]} and {file}; name one"
            )
        logs[task] = file
        _require_success(file, header)
        found, scorer = _scored(file, task, samples, choice)
        items += found
        scored_by[task] = scorer
        reducers = (header["eval"].get("config") or {}).get("epochs_reducer") or ["mean"]
        if reducers != ["mean"]:
            notes.append(f"{task}: means over epochs; Inspect reported {', '.join(reducers)}")
    return Results("inspect", items, scored_by, notes)


def _log_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted([*path.rglob("*.eval"), *path.rglob("*.json")])
    if not files:
        raise UserError(f"{path}: has no logs of Inspect, .eval or .json")
    return files


def _open_log(file: Path) -> tuple[dict[str, Any], Iterator[Sample]]:
    if not zipfile.is_zipfile(file):
        log = read_json(file)
        if not isinstance(log, dict) or "eval" not in log:
            raise UserError(f"{file}: is no log of Inspect: has no `eval`")
        return log, iter(log.get("samples") or [])
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if "header.json" not in names:
            raise UserError(f"{file}: the log has no header.json: its run has not ended")
        header = json.loads(_member(archive, "header.json"))
    return header, _archived_samples(file)


def _archived_samples(file: Path) -> Iterator[Sample]:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.startswith("samples/") and name.endswith(".json"):
                yield json.loads(_member(archive, name))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    entry = archive.getinfo(name)
    if entry.compress_type != ZSTANDARD:
        return archive.read(name)
    import pyarrow as pa

    stream = archive.fp
    assert stream is not None  # the archive is open
    stream.seek(entry.header_offset)
    stream.seek(sum(LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))), 1)
    packed = pa.BufferReader(stream.read(entry.compress_size))
    with pa.input_stream(packed, compression="zstd") as unpacked:
        return bytes(unpacked.read())


def _require_success(file: Path, header: Mapping[str, Any]) -> None:
    status = header.get("status")
    if status != "success":
        raise UserError(f"{file}: the log has the status {status!r}; allowed: success")
    if header.get("invalidated"):
        raise UserError(f"{file}: the log was marked as invalidated")


def _scored(
    file: Path, task: str, samples: Iterator[Sample], choice: Choice
) -> tuple[list[ItemScore], str]:
    """The items of a log, and the scorer that scored them."""
    items: list[ItemScore] = []
    unscored: list[str] = []
    scorer = ""
    for sample in samples:
        place = f"{file}: sample {sample['id']}, epoch {sample['epoch']}"
        if sample.get("error") or not sample.get("scores"):
            unscored.append(f"{sample['id']}, epoch {sample['epoch']}")
            continue
        scorer = scorer or _scorer(place, sample["scores"], choice)
        items.append(_item(place, task, sample, scorer, choice))
    if unscored:
        raise UserError(
            f"{file}: {len(unscored):,} samples have no score: {first_names(unscored)}; "
            "`inspect eval-retry` runs them again"
        )
    if not items:
        raise UserError(f"{file}: the log has no samples")
    return items, scorer


def _scorer(place: str, scores: Mapping[str, Any], choice: Choice) -> str:
    allowed: list[str] = []
    for name, score in scores.items():
        inner = score["value"] if isinstance(score["value"], dict) else None
        allowed += [f"{name}.{key}" for key in inner] if inner is not None else [name]
    found = [name for name in choice.metrics if name in allowed]
    if not choice.metrics and len(allowed) == 1:
        found = allowed
    if not found:
        problem = f"no score {choice.metric!r}" if choice.metrics else "several scores"
        raise UserError(f"{place}: {problem}; --metric: one of {', '.join(allowed)}")
    return found[0]


def _item(place: str, task: str, sample: Sample, scorer: str, choice: Choice) -> ItemScore:
    fields = sample.get("metadata") or {}
    category, cluster = task, ""
    if choice.category:
        category = text_field(fields, choice.category, place, "--category")
    if choice.cluster:
        cluster = text_field(fields, choice.cluster, place, "--cluster")
    asked = _said(sample["input"])
    return ItemScore(
        place=place,
        task=task,
        id=str(sample["id"]),
        content=content_hash(asked, sample.get("choices"), sample.get("target")),
        category=category,
        score=_value(sample["scores"], scorer, place),
        cluster=cluster,
        repeat=str(sample["epoch"]),
        prompt=content_hash(_said(_before_the_answer(sample.get("messages") or []))),
    )


def _value(scores: Mapping[str, Any], scorer: str, place: str) -> float:
    name = scorer if scorer in scores else scorer.rpartition(".")[0]
    value = (scores.get(name) or {}).get("value")
    if name != scorer and isinstance(value, dict):
        value = value.get(scorer.rpartition(".")[2])
    if isinstance(value, str):
        value = GRADES.get(value, GRADES.get(value.lower(), value))
    if isinstance(value, str):
        with suppress(ValueError):  # refused below, as it was written
            value = float(value)
    return checked_score(value, place, scorer)


def _before_the_answer(messages: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    roles = [message.get("role") for message in messages]
    return messages[: roles.index("assistant")] if "assistant" in roles else messages


def _said(message: Any) -> Any:
    """Messages without what differs from run to run, such as their ids."""
    if isinstance(message, list):
        return [_said(part) for part in message]
    if isinstance(message, dict):
        return {key: _said(value) for key, value in message.items() if key not in NOT_PART}
    return message
