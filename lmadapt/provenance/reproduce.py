"""Makes a version again from its commit, in a git worktree, and compares every output by hash."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ruamel.yaml import YAML

from lmadapt.core.dvc_store import store_addresses
from lmadapt.core.errors import UserError
from lmadapt.provenance.document import Lineage, StageFiles
from lmadapt.provenance.dvc_lock import locked_stages


@dataclass(frozen=True)
class ReproducedOutput:
    """One output of a stage: DVC's hash in the version's lineage, and in the new run."""

    stage: str
    path: str
    then: str
    now: str  # "missing" when the new run did not write it

    @property
    def same(self) -> bool:
        """Whether both runs wrote the same content."""
        return self.then == self.now


def reproduce(lineage: Lineage, project: Path, *, rerun: bool = False) -> list[ReproducedOutput]:
    """Run the stages up to `evaluate` at the version's commit; every output, then and now.

    DVC restores a stage from the project's cache or remote when it is there; with `rerun` every
    stage runs. `project` is the top of its git repository. Raises UserError when the commit is
    unknown, when files other than params.yaml had uncommitted changes at registration
    (params.yaml is in the lineage), or when a stage fails.
    """
    if lineage.git.problem:
        raise UserError(
            "this version cannot be reproduced from a commit: when it was registered, git did not "
            f"say which it was: {lineage.git.problem}"
        )
    commit, changed = lineage.git.commit, set(lineage.git.changed_files)
    if not commit or changed - {"params.yaml"}:
        raise UserError(
            "this version cannot be reproduced from a commit: it was registered at commit "
            f"{commit} with uncommitted changes in {', '.join(sorted(changed)) or 'no file'}"
        )
    stores = store_addresses(project)
    with TemporaryDirectory() as temp:
        worktree = Path(temp) / "project"
        _run(project, "git", "worktree", "add", "--quiet", "--detach", str(worktree), commit)
        try:
            YAML().dump(lineage.params, worktree / "params.yaml")
            _run(worktree, sys.executable, "-m", "dvc", "cache", "dir", "--local", stores[0])
            options = _repro_options(rerun=rerun, has_remote=len(stores) > 1)
            _run(worktree, sys.executable, "-m", "dvc", "repro", *options, "evaluate")
            made = locked_stages(worktree / "dvc.lock")
        finally:
            _run(project, "git", "worktree", "remove", "--force", str(worktree))
    return _compared(lineage, made)


def _repro_options(*, rerun: bool, has_remote: bool) -> list[str]:
    if rerun:
        return ["--force", "--no-run-cache"]
    return ["--pull"] if has_remote else []


def _compared(lineage: Lineage, made: dict[str, StageFiles]) -> list[ReproducedOutput]:
    """Every output in the lineage, except those of `register`, beside the output made now."""
    outputs = []
    for name, stage in lineage.stages.items():
        now = made[name].outs if name in made else {}
        if name != "register":
            for path, md5 in stage.outs.items():
                outputs.append(ReproducedOutput(name, path, md5, now.get(path, "missing")))
    return outputs


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = (done.stderr + done.stdout)[-1500:]
        raise UserError(f"`{' '.join(command)}` failed in {folder}: {output}")
