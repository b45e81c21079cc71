"""Run the pipeline when its data is new: a commit on the branch, or a changed local source.

.lmadapt/watch.json of the control checkout keeps what the last completed run saw, by branch. A run
that fails changes nothing there, so the next look starts another run.
"""

import hashlib
import json
import os
from itertools import chain
from pathlib import Path
from typing import Any

from prefect import flow
from ruamel.yaml import YAML

from flows.git import git
from flows.hand_off import remote_commit
from flows.pipeline import pipeline

STATE = Path(".lmadapt/watch.json")
# `commit`: of the branch; `files`: the SHA-256 of each file that the commit does not hold, by path.
Version = dict[str, Any]


@flow(name="watch", log_prints=True)
def watch(
    revision: str = "main",
    stages: list[str] | None = None,
    params: dict[str, Any] | None = None,
    stage_timeout_seconds: float | None = None,
    project: Path | None = None,
) -> str | None:
    """Run `pipeline` if the branch `revision` of `origin` or a local source changed.

    Returns its commit, or None where nothing changed. The other parameters are those of `pipeline`.
    Raises what `pipeline` raises, and ValueError where origin has no such branch.
    """
    folder = (project or Path.cwd()).resolve()
    found, seen = data_version(folder, revision), read_seen(folder).get(revision)
    if found == seen:
        count = len(found["files"])
        print(
            f"nothing new: {revision} is at {found['commit'][:12]}, {count} local files as before"
        )
        return None
    print(f"new since the last completed run: {', '.join(changes(seen, found))}")
    # Run the commit that was looked at, not the branch: a newer one is new at the next look.
    done: str = pipeline(found["commit"], stages, params, stage_timeout_seconds, folder)
    write_seen(folder, read_seen(folder) | {revision: found})
    return done


def data_version(project: Path, revision: str) -> Version:
    """The branch's commit, and the SHA-256 of each file of its local sources that git lacks.

    Raises ValueError where origin has no such branch.
    """
    commit = remote_commit(project, revision)
    if not commit:
        raise ValueError(f"revision: origin has no branch {revision}")
    git(project, "fetch", "--quiet", "origin", f"refs/heads/{revision}")
    settings = YAML(typ="safe").load(git(project, "show", f"{commit}:params.yaml"))
    # The checkout may be at another commit, so files that git has are known by the commit alone.
    names = git(project, "ls-tree", "-rz", "--name-only", commit).split("\0")
    tracked = {project / name for name in names if name}
    files: dict[str, str] = {}
    for name in local_sources(settings.get("fetch") or {}):
        path = project / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        untracked = [file for file in found if file.is_file() and file not in tracked]
        files |= {str(file): sha256(file) for file in untracked}
    return {"commit": commit, "files": files}


def local_sources(fetch: dict[str, Any]) -> list[str]:
    """The names in section `fetch` of params.yaml that may be files or folders.

    A hub id is among them too; no file has its name.
    """
    sources = chain.from_iterable((fetch.get("sources") or {}).values())
    model = fetch.get("model") or {}
    names = [source.get("path") for source in sources]
    names += [model.get("name_or_path"), model.get("chat_template")]
    return [name for name in names if name]


def sha256(file: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def changes(seen: Version | None, found: Version) -> list[str]:
    """The names of what is new: the commit and files, or everything before the first run."""
    if seen is None:
        return ["everything"]
    before, now = seen["files"], found["files"]
    files = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if found["commit"] == seen["commit"]:
        return files
    return [f"commit {found['commit'][:12]}", *files]


def read_seen(project: Path) -> dict[str, Version]:
    """What the last completed run saw, by branch; empty before the first run."""
    file = project / STATE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def write_seen(project: Path, seen: dict[str, Version]) -> None:
    """Replace the state in one step: a crash leaves the old one or the new one."""
    file = project / STATE
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(seen, stream, indent=2, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
