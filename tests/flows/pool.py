"""A small project with a control clone and agents; its stages really run, but without servers."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows import pipeline as pipeline_module
from flows.hand_off import hand_over
from tests.flows.agents import push, run
from tests.flows.dvc_project import fork_dvc, initialise


@dataclass
class Pool:
    """The project's clones: `control` for flows, `clones` for agents.

    With a `meeting`, each stage waits until as many stages are ready to start.
    """

    folder: Path
    control: Path
    clones: "queue.Queue[Path]"
    meeting: threading.Barrier | None = None

    def push(self, **files: str) -> str:
        """Push new content to main of origin from a third clone; the commit."""
        return push(self.folder / "project", **files)

    def ran(self) -> list[str]:
        """The words that stages wrote when they ran."""
        file = self.folder / "ran.txt"
        return file.read_text().split() if file.exists() else []

    def show(self, name: str) -> str:
        """The content of REVISION:NAME in the shared repository."""
        return run(self.folder, "git", "--git-dir", "shared.git", "show", name)


@contextmanager
def pool(
    folder: Path, agents: int, monkeypatch: pytest.MonkeyPatch, **files: str
) -> Iterator[Pool]:
    """A pushed project with these files (`dvc_yaml` is dvc.yaml), and its clones."""
    run(folder, "git", "init", "-q", "--bare", "-b", "main", "shared.git")
    run(folder, "git", "clone", "-q", "shared.git", "project")
    initialise(folder / "project", folder / "store")
    fork_dvc(monkeypatch)
    (folder / "project/.gitignore").write_text(".lmadapt/\n__pycache__/\n/metrics/\n/data.txt\n")
    one = Pool(folder, folder / "control", queue.Queue())
    one.push(**files)
    for name in ("control", *(f"agent-{number}" for number in range(agents))):
        run(folder, "git", "clone", "-q", "-b", "main", "shared.git", name)
        if name != "control":
            one.clones.put(folder / name)
    monkeypatch.setenv("RAN", str(folder / "ran.txt"))
    monkeypatch.setattr(pipeline_module, "run_on_pool", on_an_agent(one))
    yield one


def on_an_agent(one: Pool) -> Callable[..., str]:
    """What a worker does with a stage: one hand-over at a time in its clone."""

    def run_on_pool(stage: str, pool: str, commit: str, *, branch: str, **rest: Any) -> str:
        clone = one.clones.get()
        try:
            if one.meeting:
                one.meeting.wait(120)
            return hand_over(stage, commit, branch, clone, lambda line: None)[1]
        finally:
            one.clones.put(clone)

    return run_on_pool
