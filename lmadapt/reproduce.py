"""A version made again from its commit: the same stages in a worktree of their own, compared hash by hash."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ruamel.yaml import YAML

from lmadapt.dvc_store import store_addresses
from lmadapt.errors import UserError
from lmadapt.lineage import Lineage, locked_stages
from lmadapt.sections import plain, read_params

LAST = "evaluate"  # what comes after it, `register`, writes to the registry


def reproduce(lineage: Lineage, project: Path, *, rerun: bool = False) -> list[tuple[str, str, str, str]]:
    """Check out the version's commit, restore or run its stages up to `evaluate`; rows of stage, path, then, now.

    The hashes are DVC's of everything the stages wrote. Stages are restored from the project's DVC cache and remote
    where they are there, or with `rerun` all run anew. Raises UserError when the commit is not in this repository,
    was registered with changed files, or a stage fails.
    """
    commit, changed = lineage["git"]["commit"], set(lineage["git"]["changed_files"])
    if not commit or changed - {"params.yaml"}:
        what = f"with changes to {', '.join(sorted(changed))}" if commit else "outside git"
        raise UserError(f"this version was registered {what}: no commit leads back to it")
    with _worktree(project, commit) as worktree:
        params = worktree / "params.yaml"
        if plain(read_params(params)) != lineage["params"]:
            YAML().dump(lineage["params"], params)
        _run(project, "dvc", "cache", "dir", "--local", _run(project, "dvc", "cache", "dir"), cwd=worktree)
        pull = ["--pull"] if len(store_addresses(project)) > 1 else []
        _run(project, "dvc", "repro", *(["--force", "--no-run-cache"] if rerun else pull), LAST, cwd=worktree)
        made = locked_stages(worktree / "dvc.lock")
    return [
        (name, path, md5, made.get(name, {}).get("outs", {}).get(path, "missing"))
        for name, stage in lineage["stages"].items()
        if name != "register"
        for path, md5 in stage["outs"].items()
    ]


@contextmanager
def _worktree(project: Path, commit: str) -> Iterator[Path]:
    with TemporaryDirectory() as temp:
        worktree = Path(temp) / "project"
        _run(project, "git", "worktree", "add", "--quiet", "--detach", str(worktree), commit)
        try:
            top = Path(_run(project, "git", "rev-parse", "--show-toplevel"))
            yield worktree / project.resolve().relative_to(top.resolve())
        finally:
            _run(project, "git", "worktree", "remove", "--force", str(worktree))


def _run(project: Path, program: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run git or dvc; the stages of a worktree import the worktree's own code."""
    command = [program] if program == "git" else [sys.executable, "-m", program]
    done = subprocess.run([*command, *arguments], cwd=cwd or project, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"`{program} {' '.join(arguments)}` failed: {(done.stderr + done.stdout)[-1500:]}")
    return done.stdout.strip()
