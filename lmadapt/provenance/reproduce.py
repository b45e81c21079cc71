"""A version made again from its commit: the same stages in a worktree of their own, compared hash by hash."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ruamel.yaml import YAML

from lmadapt.core.dvc_store import store_addresses
from lmadapt.core.errors import UserError
from lmadapt.provenance.lineage import Lineage, locked_stages


def reproduce(
    lineage: Lineage, project: Path, *, rerun: bool = False
) -> list[tuple[str, str, str, str]]:
    """Check out the version's commit, restore or run its stages up to `evaluate`; rows of stage, path, then, now.

    The hashes are DVC's of everything the stages wrote. Stages are restored from the project's DVC cache and remote
    where they are there, or with `rerun` all run anew. `project` is the top of its git repository. Raises UserError
    when the commit is not in it, the version was registered with other changed files than params.yaml, whose content
    is in the lineage, or a stage fails.
    """
    commit, changed = lineage["git"]["commit"], set(lineage["git"]["changed_files"])
    if not commit or changed - {"params.yaml"}:
        raise UserError(
            f"no commit leads back to this version: commit {commit}, changed: {', '.join(sorted(changed))}"
        )
    stores = store_addresses(project)
    with TemporaryDirectory() as temp:
        worktree = Path(temp) / "project"
        _run(project, "git", "worktree", "add", "--quiet", "--detach", str(worktree), commit)
        try:
            YAML().dump(lineage["params"], worktree / "params.yaml")
            _run(worktree, sys.executable, "-m", "dvc", "cache", "dir", "--local", f"{stores[0]}")
            options = (
                ["--force", "--no-run-cache"] if rerun else ["--pull"] if len(stores) > 1 else []
            )
            _run(worktree, sys.executable, "-m", "dvc", "repro", *options, "evaluate")
            made = locked_stages(worktree / "dvc.lock")
        finally:
            _run(project, "git", "worktree", "remove", "--force", str(worktree))
    then = {
        (name, path): md5
        for name, stage in lineage["stages"].items()
        for path, md5 in stage["outs"].items()
    }
    now = {(name, path): md5 for name, stage in made.items() for path, md5 in stage["outs"].items()}
    return [
        (*key, md5, now.get(key, "missing")) for key, md5 in then.items() if key[0] != "register"
    ]


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"`{' '.join(command)}` failed: {(done.stderr + done.stdout)[-1500:]}")
