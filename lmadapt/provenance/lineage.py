"""Where a model came from: commit, data, params, software and verdict, as one document without secrets."""

import re
import subprocess
from pathlib import Path
from typing import Any

from rich.tree import Tree
from ruamel.yaml import YAML

from lmadapt.core.errors import UserError
from lmadapt.core.files import file_sha256, folder_sha256, read_json
from lmadapt.core.sections import plain, read_params
from lmadapt.core.stage_runner import recorded_run

Lineage = dict[str, Any]
SCHEMA = "lmadapt-lineage/2"
USER_INFO = re.compile(r"://[^/\s]*@")
SECRET_VALUE = re.compile(r"((?:password|passwd|pwd|token|secret)=)[^&\s'\"]+", re.IGNORECASE)
TEMPLATE_FILE = "chat_template.jinja"  # where transformers' save_pretrained puts it


def collect_lineage(
    project: Path, *, pretrained: Path, adapter: Path, evaluation: Path, lock: Path
) -> Lineage:
    """The document stored with a registered version, as docs/lineage.schema.json states it; every value is plain JSON.

    Paths are relative to the working folder, `project` is the folder with params.yaml and requirements.lock.
    Raises UserError when the adapter has no chat template, or the evaluation no verdict.
    """
    template = adapter / TEMPLATE_FILE
    if not template.is_file():
        raise UserError(
            f"{template}: no such file; an adapter is registered with its tokenizer and chat template"
        )
    requirements = project / "requirements.lock"
    result = read_evaluation(evaluation)
    stages = locked_stages(lock)
    metrics = {name: f"metrics/{name}.json" for name in stages}
    lineage = {
        "schema": SCHEMA,
        "git": git_state(project),
        "stages": stages,
        "runs": {
            name: run for name, file in metrics.items() if (run := recorded_run(name, Path(file)))
        },
        "params": plain(read_params(project / "params.yaml")),
        "metrics": {
            name: read_json(Path(file))
            for name, file in metrics.items()
            if file in stages[name]["outs"]
            and name not in ("evaluate", "register")
            and Path(file).is_file()
        },
        "adapter_sha256": folder_sha256(adapter),
        "base_sha256": folder_sha256(pretrained),
        "chat_template_sha256": file_sha256(template),
        "evaluation_sha256": file_sha256(evaluation),
        "requirements_lock_sha256": file_sha256(requirements) if requirements.is_file() else None,
        "alpha_scale": float(result.get("alpha_scale", 1.0)),
        "verdict": result["verdict"],
        "figures": main_figures(result),
    }
    return dict(without_passwords(lineage))


def read_evaluation(file: Path) -> dict[str, Any]:
    """metrics/evaluate.json; raises UserError naming what is missing of verdict.outcome and verdict.reason."""
    result = read_json(file)
    for key in ("outcome", "reason"):
        if not isinstance(result, dict) or key not in (result.get("verdict") or {}):
            raise UserError(f"{file}: verdict.{key} is missing; `dvc repro evaluate` writes it")
    return dict(result)


def main_figures(evaluation: dict[str, Any]) -> dict[str, float]:
    """Accuracies of base and adapted model and their differences, each between -1 and 1, by name."""
    figures = {
        f"{group}_accuracy_{model}": groups[group]["accuracy"]
        for model, groups in evaluation.get("models", {}).items()
        for group in ("domain", "general")
    }
    changes = evaluation.get("changes", {}).get("adapted_vs_base", {})
    return figures | {
        f"{group}_change": changes[group]["difference"]
        for group in ("domain", "general")
        if group in changes
    }


def git_state(project: Path) -> dict[str, Any]:
    """Commit and changed files; dvc.lock does not count, being rewritten while the pipeline runs. Null without git."""
    commit = _git(project, "rev-parse", "HEAD")
    changes = _git(project, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock")
    return {
        "commit": commit.strip() if commit else None,
        "changed_files": [line[3:] for line in (changes or "").splitlines()],
    }


def locked_stages(lock: Path) -> dict[str, dict[str, dict[str, str]]]:
    """For each stage in dvc.lock, MD5 or ETag of what it read (`deps`) and wrote (`outs`), by path; {} without it."""
    if not lock.is_file():
        return {}
    content = YAML(typ="safe").load(lock.read_text(encoding="utf-8")) or {}
    return {
        name: {kind: _hashes(stage.get(kind, [])) for kind in ("deps", "outs")}
        for name, stage in content.get("stages", {}).items()
    }


def _hashes(entries: list[dict[str, Any]]) -> dict[str, str]:
    """By path; what lies on S3 or the like has an `etag`, or nothing that says what it was."""
    hashes = {entry["path"]: entry.get("md5") or entry.get("etag") for entry in entries}
    return {path: found for path, found in hashes.items() if found}


def output_md5(lineage: Lineage, path: Path) -> str | None:
    """MD5 of what some stage wrote at `path`; None where none did."""
    return next(
        (
            stage["outs"][str(path)]
            for stage in lineage["stages"].values()
            if str(path) in stage["outs"]
        ),
        None,
    )


def lineage_tree(lineage: Lineage, title: str) -> Tree:
    """The chain from the version down to raw files: what each stage wrote, from what, with hashes and counts."""
    git, tree = lineage["git"], Tree(f"{title}: {lineage['verdict']['outcome']}")
    tree.add(f"commit {git['commit']}, changed files: {', '.join(git['changed_files']) or 'none'}")
    _grow(tree, lineage, "metrics/evaluate.json", "", set())
    return tree


def _grow(node: Tree, lineage: Lineage, path: str, md5: str, seen: set[str]) -> None:
    """Add `path` and all it was made from; what stands in the tree already is not repeated."""
    written = ((name, out) for name, stage in lineage["stages"].items() for out in stage["outs"])
    name = next((name for name, out in written if path == out or path.startswith(f"{out}/")), None)
    seconds = lineage["runs"].get(name, {}).get("seconds")
    branch = node.add(
        f"{path}  {md5}"
        + (f"  by {name}" if name else "")
        + (f" in {seconds} s" if seconds else "")
    )
    if name is None or name in seen:
        return
    seen.add(name)
    for dep, dep_md5 in lineage["stages"][name]["deps"].items():
        if not dep.endswith((".py", ".j2")):
            _grow(branch, lineage, dep, dep_md5, seen)
    if name == "fetch":
        settings, counts = lineage["params"]["fetch"], lineage["metrics"].get("fetch", {})
        for role, sources in settings["sources"].items():
            named = [
                source.get("path") or source.get("hub") or source.get("module")
                for source in sources
            ]
            branch.add(f"{role} {counts.get(role, '')} from {', '.join(map(str, named))}")
        for package, sha256 in settings["packages"].items():
            branch.add(f"package {package}  SHA-256 {sha256}")


def without_passwords(node: Any) -> Any:
    """The same document with `***` for what addresses hold of secrets: `user:password@`, `?password=`, `&token=`, …"""
    if isinstance(node, dict):
        return {key: without_passwords(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_passwords(value) for value in node]
    return (
        SECRET_VALUE.sub(r"\1***", USER_INFO.sub("://***@", node))
        if isinstance(node, str)
        else node
    )


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=project, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
