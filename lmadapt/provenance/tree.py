"""Prints a lineage as a tree: the version at the top, raw files at the bottom."""

from typing import Any

from rich.tree import Tree

from lmadapt.provenance.document import Lineage
from lmadapt.provenance.dvc_lock import is_code


def lineage_tree(lineage: Lineage, title: str) -> Tree:
    """What each stage wrote and what it read, from the evaluation down to the raw files.

    Every path stands with its hash; a stage is followed down only once.
    """
    git = lineage.git
    tree = Tree(f"{title}: {lineage.verdict.title}")
    changed = ", ".join(git.changed_files) or "none"
    known = f"commit {git.commit}, changed files: {changed}"
    tree.add(f"commit and changed files unknown: {git.problem}" if git.problem else known)
    _add_path(tree, lineage, "metrics/evaluate.json", "", set())
    return tree


def _add_path(node: Tree, lineage: Lineage, path: str, md5: str, seen: set[str]) -> None:
    """Add `path` and everything it was made from; `seen` holds the stages already followed."""
    stage = _writer(lineage, path)
    label = f"{path}  {md5}"
    if stage:
        label += f"  by {stage}"
    if stage in lineage.runs and lineage.runs[stage].seconds:
        label += f" in {lineage.runs[stage].seconds} s"
    branch = node.add(label)
    if stage is None or stage in seen:
        return
    seen.add(stage)
    for dep, dep_md5 in lineage.stages[stage].deps.items():
        if not is_code(dep):  # documents of earlier releases list code among the deps
            _add_path(branch, lineage, dep, dep_md5, seen)
    if stage == "fetch":
        _add_sources(branch, lineage)


def _writer(lineage: Lineage, path: str) -> str | None:
    """The stage that wrote `path` or a folder around it; None for a file from outside."""
    for name, stage in lineage.stages.items():
        if any(path == out or path.startswith(f"{out}/") for out in stage.outs):
            return name
    return None


def _add_sources(branch: Tree, lineage: Lineage) -> None:
    """Add where the raw data came from, with the counts of `fetch`, and its packages."""
    settings = lineage.params["fetch"]
    counts = lineage.metrics.get("fetch", {})
    for role, sources in settings["sources"].items():
        names = ", ".join(map(_source_name, sources))
        branch.add(f"{role} {counts.get(role, '')} from {names}")
    for package, sha256 in settings["packages"].items():
        branch.add(f"package {package}  SHA-256 {sha256}")


def _source_name(source: dict[str, Any]) -> str:
    return str(source.get("path") or source.get("hub") or source.get("module"))
