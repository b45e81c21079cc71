"""Reads dvc.lock: what each stage read and wrote, by hash."""

from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from lmadapt.provenance.document import StageFiles

CODE_FOLDERS = ("lmadapt", "stages", "demo")


def locked_stages(lock: Path) -> dict[str, StageFiles]:
    """What each stage in dvc.lock read and wrote, without code; {} when there is no such file."""
    if not lock.is_file():
        return {}
    content = YAML(typ="safe").load(lock.read_text(encoding="utf-8")) or {}
    stages = {}
    for name, stage in content.get("stages", {}).items():
        deps = _hashes(stage.get("deps", []))
        inputs = {path: found for path, found in deps.items() if not is_code(path)}
        stages[name] = StageFiles(deps=inputs, outs=_hashes(stage.get("outs", [])))
    return stages


def is_code(path: str) -> bool:
    """Whether a dep of a stage is code, which the commit states, and not an input."""
    return path.endswith(".py") or PurePosixPath(path).parts[0] in CODE_FOLDERS


def _hashes(entries: list[dict[str, Any]]) -> dict[str, str]:
    """MD5 or ETag by path; DVC records an `etag` for S3 and the like, and for some nothing."""
    hashes = {entry["path"]: entry.get("md5") or entry.get("etag") for entry in entries}
    return {path: found for path, found in hashes.items() if found}
