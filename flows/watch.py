"""Run the pipeline when its data is new: a commit on the branch, or other content of a local source.

What the last completed run saw is kept in .lmadapt/watch.json of the control checkout, by branch. A run that did not
complete has seen nothing: the next look starts another one.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from prefect import flow
from ruamel.yaml import YAML

from flows.git import git
from flows.hand_off import remote_commit
from flows.pipeline import pipeline

STATE = Path(".lmadapt/watch.json")
Version = dict[str, Any]  # commit: of the branch; files: SHA-256 by path, of what git does not have


@flow(name="watch", log_prints=True)
def watch(
    revision: str = "main",
    stages: list[str] | None = None,
    params: dict[str, Any] | None = None,
    stage_timeout_seconds: float | None = None,
    project: Path | None = None,
) -> str | None:
    """Run `pipeline` if the branch `revision` of `origin` or a local source changed; its commit, None without a run.

    The other parameters are those of `pipeline`. Raises what it raises, and ValueError without such a branch.
    """
    folder = (project or Path.cwd()).resolve()
    found, seen = data_version(folder, revision), read_seen(folder).get(revision)
    if found == seen:
        print(
            f"nothing new: {revision} is at {found['commit'][:12]}, {len(found['files'])} local files as before"
        )
        return None
    print(f"new since the last completed run: {', '.join(changes(seen, found))}")
    # Exactly the commit that was looked at: what comes meanwhile is new at the next look.
    done: str = pipeline(found["commit"], stages, params, stage_timeout_seconds, folder)
    write_seen(folder, read_seen(folder) | {revision: found})
    return done


def data_version(project: Path, revision: str) -> Version:
    """The commit of the branch, and the SHA-256 of each file of its local sources that the commit does not hold."""
    commit = remote_commit(project, revision)
    if not commit:
        raise ValueError(f"revision: origin has no branch {revision}")
    git(project, "fetch", "--quiet", "origin", f"refs/heads/{revision}")
    settings = YAML(typ="safe").load(git(project, "show", f"{commit}:params.yaml"))
    # The checkout may be at another commit: what git has is told by the commit, not by the files that lie here.
    tracked = {
        project / name
        for name in git(project, "ls-tree", "-rz", "--name-only", commit).split("\0")
        if name
    }
    files: dict[str, str] = {}
    for name in local_sources(settings.get("fetch") or {}):
        path = project / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        files |= {
            str(file): sha256(file) for file in found if file.is_file() and file not in tracked
        }
    return {"commit": commit, "files": files}


def local_sources(fetch: dict[str, Any]) -> list[str]:
    """What the section `fetch` of params.yaml names that may be a file or folder; a hub id is neither, here."""
    sources = [
        source.get("path") for named in (fetch.get("sources") or {}).values() for source in named
    ]
    model = fetch.get("model") or {}
    return [
        name for name in [*sources, model.get("name_or_path"), model.get("chat_template")] if name
    ]


def sha256(file: Path) -> str:
    """The hash of a file's content, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def changes(seen: Version | None, found: Version) -> list[str]:
    """What is new, in words."""
    if seen is None:
        return ["all of it"]
    before, now = seen["files"], found["files"]
    files = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return [
        *([f"commit {found['commit'][:12]}"] if found["commit"] != seen["commit"] else []),
        *files,
    ]


def read_seen(project: Path) -> dict[str, Version]:
    """What the last completed run saw, by branch; empty before the first."""
    file = project / STATE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def write_seen(project: Path, seen: dict[str, Version]) -> None:
    """Replace the state at once: a crash leaves the old one or the new one."""
    file = project / STATE
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(seen, stream, indent=2, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
