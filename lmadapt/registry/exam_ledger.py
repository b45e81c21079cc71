"""The ledger of exams: how many models each exam has judged, and what that does to the error.

It is the experiment `lmadapt-exams` of the registry, with one tag for each exam and model. A tag is
written whole and the same twice, so that two processes never lose each other's entries, and a
repeated one counts once. The models' own versions may be deleted; the entries stay.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmadapt.registry.connection import reaching_registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT = "lmadapt-exams"
Kind = Literal["judged", "opened"]


@dataclass(frozen=True)
class Ledger:
    """What the ledger says of one exam."""

    exam_sha256: str
    levels: list[float]  # of each model that it judged
    opened: int  # for how many models its sealed part was opened

    @property
    def models(self) -> int:
        """How many models it judged."""
        return len(self.levels)

    @property
    def error(self) -> float:
        """The chance that at least one of these models passes if none of them gained anything.

        1 minus the product of (1 - level), the bound of Šidák 1967. It holds for tests that are
        independent or rise and fall together, as those of models on the same items do.
        """
        return 1 - math.prod(1 - level for level in self.levels)

    def in_words(self) -> str:
        """One sentence for people who judge the next model on this exam."""
        opened = f" Its sealed part was opened for {_models(self.opened)}." if self.opened else ""
        if self.models < 2:
            return f"The exam {self.exam_sha256[:12]} has judged {_models(self.models)}.{opened}"
        return (
            f"The exam {self.exam_sha256[:12]} has judged {_models(self.models)}: if none of them "
            f"gained anything, the chance that at least one passes is at most "
            f"{100 * self.error:.0f} %. New items, or a sealed part (evaluate.sealed_fraction), "
            f"bring it back to {100 * self.levels[-1]:.0f} %.{opened}"
        )


def record(client: "MlflowClient", version: "ModelVersion", kind: Kind) -> None:
    """Write into the ledger that the version's exam judged it, or was opened for it.

    A version of an earlier release, whose exam is not known, is left out.
    """
    from lmadapt.registry.upload import find_experiment

    exam = version.tags.get("exam_sha256")
    if not exam:
        return
    entry = {
        "model": f"{version.name}/{version.version}",
        "level": float(version.tags["exam_level"]),
        "outcome": version.tags.get("verdict", ""),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    key = f"{kind}.{exam}.{version.tags['content_sha256']}"
    experiment = find_experiment(client, EXPERIMENT, Path.cwd())
    if key not in client.get_experiment(experiment).tags:
        client.set_experiment_tag(experiment, key, json.dumps(entry))


@reaching_registry()
def read_ledger(client: "MlflowClient", exam_sha256: str) -> Ledger:
    """What the ledger says of an exam."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return ledger_in(experiment.tags if experiment else {}, exam_sha256)


def ledger_in(tags: "Mapping[str, str]", exam_sha256: str) -> Ledger:
    """What tags of the experiment say of an exam, oldest entry first."""
    judged = [
        json.loads(text) for key, text in tags.items() if key.startswith(f"judged.{exam_sha256}.")
    ]
    judged.sort(key=lambda entry: str(entry["at"]))
    opened = sum(key.startswith(f"opened.{exam_sha256}.") for key in tags)
    return Ledger(exam_sha256, [float(entry["level"]) for entry in judged], opened)


@reaching_registry()
def exams_in(client: "MlflowClient") -> list[Ledger]:
    """What the ledger says of every exam, the one with most models first."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    tags = experiment.tags if experiment else {}
    exams = {key.split(".")[1] for key in tags if key.startswith(("judged.", "opened."))}
    found = [ledger_in(tags, exam) for exam in sorted(exams)]
    return sorted(found, key=lambda ledger: -ledger.models)


def _models(count: int) -> str:
    return f"{count} model" if count == 1 else f"{count} models"
