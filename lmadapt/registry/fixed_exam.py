"""The exam and the margins that a model's versions are judged by, fixed before training.

They are a tag of the registered model, so that a project cannot change them unseen.
"""

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lmadapt.core.errors import UserError
from lmadapt.registry.connection import reaching_registry
from lmadapt.registry.margins import Margins, differing, margins_in

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from lmadapt.provenance.document import Lineage

TAG = "exam_fixed"
BEFORE = "exam_fixed_before"  # the one that it replaced, with the reason


@dataclass(frozen=True)
class FixedExam:
    """What was fixed, and when."""

    exam_sha256: str
    margins: Margins
    at: str  # UTC, as 2026-11-28T16:00:00Z
    because: str = ""  # why it replaced another; "" for the first


@reaching_registry()
def fix_exam(
    client: "MlflowClient", name: str, exam_sha256: str, margins: Margins, reason: str = ""
) -> FixedExam:
    """Fix the exam and the margins for the registered model, which is made when it is missing.

    To fix the same again changes nothing. Raises UserError, which names both, when others are fixed
    and there is no `reason`.
    """
    from mlflow.exceptions import MlflowException

    from lmadapt.registry.lock import registry_lock

    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    new = FixedExam(exam_sha256, margins, at, reason)
    with registry_lock(client, name):
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        old = fixed_exam(client, name)
        problem = _difference(exam_sha256, margins, old) if old else ""
        if old and not problem:
            return old
        if old and not reason:
            raise UserError(
                f"{name}: an exam is fixed since {old.at}: {problem}; allowed with "
                "--reason, which is recorded"
            )
        if old:
            client.set_registered_model_tag(name, BEFORE, json.dumps(asdict(old)))
        client.set_registered_model_tag(name, TAG, json.dumps(asdict(new)))
    return new


def fixed_exam(client: "MlflowClient", name: str) -> FixedExam | None:
    """What is fixed for the registered model; None when nothing is."""
    text = client.get_registered_model(name).tags.get(TAG)
    return FixedExam(**json.loads(text)) if text else None


def fixed_exam_refusal(fixed: FixedExam | None, lineage: "Lineage") -> str:
    """Why a version judged as its lineage says does not fit what was fixed; "" when it does."""
    if fixed is None:
        return ""
    settings: dict[str, Any] = lineage.params["evaluate"]
    judged_on = lineage.exam.sha256 if lineage.exam else ""
    problem = _difference(judged_on, margins_in(settings), fixed)
    return f"it was not judged as `lmadapt exam fix` says: {problem}" if problem else ""


def _difference(exam_sha256: str, margins: Margins, fixed: FixedExam) -> str:
    """What differs from the fixed exam, with both values; "" when nothing does."""
    different = differing(margins, fixed.margins)
    if exam_sha256 != fixed.exam_sha256:
        now = f"{exam_sha256[:16]}…" if exam_sha256 else "not recorded"
        different.insert(0, f"exam {now} instead of {fixed.exam_sha256[:16]}…")
    return ", ".join(different)
