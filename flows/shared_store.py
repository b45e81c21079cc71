"""What the `dvc` command cannot do with the DVC remote: checkpoints there, and cache settings.

While a stage runs, its checkpoints are in `checkpoints/BRANCH/STAGE` of the remote, so that another
agent continues where a lost one stopped. The training itself decides by a fingerprint whether a
checkpoint is whole and its own.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

# lmadapt/training/checkpoints.py writes FOLDER/checkpoint-STEP here.
CHECKPOINTS = Path(".lmadapt/checkpoints")
WHOLE = "sizes.json"  # the last file of a checkpoint: where it is, the checkpoint is whole


def set_up_cache(project: Path) -> None:
    """Have DVC verify the hash of every download, and link files to its cache instead of copying.

    By default it does neither. Settings of the project or of the user stay as they are.
    """
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        name = repo.config["core"].get("remote")
        verify = name and not repo.config["remote"][name].get("verify")
        link = "type" not in repo.config["cache"]
        if verify or link:
            with repo.config.edit("local") as local:
                if verify:
                    local.setdefault("remote", {}).setdefault(name, {})["verify"] = True
                if link:
                    local.setdefault("cache", {})["type"] = "reflink,hardlink,symlink,copy"


def push_checkpoints(project: Path, branch: str, stage: str, sent: set[str]) -> None:
    """Send the stage's whole checkpoints that are not yet in `sent`; remove older ones remotely."""
    for sizes in sorted((project / CHECKPOINTS).glob(f"{stage}-*/checkpoint-*/{WHOLE}")):
        checkpoint = sizes.parent
        name = f"{checkpoint.parent.name}.{checkpoint.name}.zip"
        if name in sent:
            continue
        fs, folder = _place(project, branch, stage)
        with tempfile.TemporaryDirectory(dir=project / ".lmadapt") as temporary:
            packed = Path(temporary, name)
            with zipfile.ZipFile(packed, "w") as archive:  # uncompressed: weights do not shrink
                for file in sorted(checkpoint.rglob("*")):
                    archive.write(file, file.relative_to(project / CHECKPOINTS))
            older = _names(fs, folder)
            fs.makedirs(folder, exist_ok=True)
            fs.put_file(str(packed), fs.join(folder, name))
        for outdated in older:
            if outdated != name:
                fs.remove(fs.join(folder, outdated))
        sent.add(name)


def pull_checkpoints(project: Path, branch: str, stage: str) -> list[str]:
    """Fetch the checkpoints that this agent does not have; their names. Broken ones are skipped."""
    fs, folder = _place(project, branch, stage)
    fetched = []
    for name in _names(fs, folder):
        inner = Path(*name.removesuffix(".zip").rsplit(".", 1))
        target = project / CHECKPOINTS / inner
        if target.exists():
            continue
        (project / ".lmadapt").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=project / ".lmadapt") as temporary:
            packed = Path(temporary, name)
            fs.get_file(fs.join(folder, name), str(packed))
            try:
                with zipfile.ZipFile(packed) as archive:
                    archive.extractall(temporary)  # never writes outside the folder
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(Path(temporary, inner), target)
            except (zipfile.BadZipFile, OSError):  # half sent
                continue
        fetched.append(inner.as_posix())
    return fetched


def drop_checkpoints(project: Path, branch: str, stage: str) -> None:
    """Remove this run's checkpoints of the stage from the remote."""
    fs, folder = _place(project, branch, stage)
    for name in _names(fs, folder):
        fs.remove(fs.join(folder, name))


def _place(project: Path, branch: str, stage: str) -> tuple[Any, str]:
    """The remote's file system, and the folder of the stage's checkpoints in it."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        remote = repo.cloud.get_remote()
        return remote.fs, remote.fs.join(remote.path, "checkpoints", branch, stage)


def _names(fs: Any, folder: str) -> list[str]:
    return [fs.name(path) for path in fs.find(folder)] if fs.exists(folder) else []
