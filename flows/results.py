"""What the stages of a run measured, as flows read it from the run's commit."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.git import CHECKOUT, git
from lmadapt.verdict.figures import Outcome, outcome_title

Results = dict[str, dict[str, Any]]  # by stage, its metrics file


class Verdict(BaseModel):
    """The verdict of a run's evaluation, as far as flows report it."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    reason: str
    reservations: list[str] = []

    @property
    def title(self) -> str:
        """The outcome as readers see it."""
        return outcome_title(self.outcome, self.reservations)


def results_of(project: Path, commit: str, stages: list[str]) -> Results:
    """What these stages measured; the commit may hold other stages' results from earlier runs."""
    with CHECKOUT:
        git(project, "fetch", "--quiet", "origin")
    files = git(project, "ls-tree", "--name-only", commit, "results/").splitlines()
    names = [name for name in files if Path(name).stem in stages]
    return {Path(name).stem: json.loads(git(project, "show", f"{commit}:{name}")) for name in names}


def verdict_of(results: Results) -> Verdict | None:
    """The verdict; None where no evaluation ran.

    Raises ValueError naming the key when results/evaluate.json has no valid verdict.
    """
    if "evaluate" not in results:
        return None
    try:
        return Verdict.model_validate(results["evaluate"].get("verdict"))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(["verdict", *map(str, problem["loc"])])
        raise ValueError(f"results/evaluate.json: {key}: {problem['msg']}") from None


def registered_version(results: Results) -> str:
    """The registered version and its aliases, as `NAME 3 (candidate)`; empty without one."""
    version = results.get("register")
    if not version:
        return ""
    return f"{version['model_name']} {version['version']} ({', '.join(version['aliases'])})"


def accuracy(figure: dict[str, Any]) -> str:
    """An accuracy of results/evaluate.json in percent, with its interval; empty without one."""
    if figure.get("accuracy") is None:
        return ""
    value, low, high = (f"{100 * share:.1f}" for share in (figure["accuracy"], *figure["interval"]))
    return f"{value} % [{low}, {high}]"
