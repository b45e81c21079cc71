"""The lineage document: where a registered version came from, as lineage.json states it.

`python -m lmadapt.provenance.document` prints its JSON schema, which is docs/lineage.schema.json.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lmadapt.verdict.exam_figures import ExamFigures
from lmadapt.verdict.figures import Outcome, outcome_title
from lmadapt.verdict.judged import Artifact, Judged

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Hashes = Annotated[
    dict[str, str], Field(description="By path: MD5 (of a folder with the suffix .dir) or ETag.")
]


class Part(BaseModel):
    """Base of everything in the document: immutable.

    Unknown keys are dropped, so that documents of earlier releases stay readable.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", serialize_by_alias=True)


class GitState(Part):
    """The commit of the project, and what was not committed."""

    commit: str | None = Field(description="Null outside git.")
    changed_files: list[str] = Field(description="Without dvc.lock, which every run rewrites.")
    problem: str = Field(
        default="", description="Why git refused to say either, such as an owner it distrusts."
    )


class StageFiles(Part):
    """What a stage read and wrote."""

    deps: Hashes = Field(description="Data and models read; the commit states the code.")
    outs: Hashes


class StageRun(Part):
    """How long a stage took, and on what machine."""

    seconds: float = Field(ge=0)
    processor: str
    cores: int
    gpus: list[str]
    peak_bytes: int | None = Field(
        default=None, description="Most memory used: of the first GPU, or of the process."
    )


class LineageVerdict(Part):
    """The verdict on the version."""

    outcome: Outcome
    reason: str
    reservations: list[str] = Field(
        default=[], description="What was accepted but must be known, in clauses."
    )
    remedy: list[str] = Field(default=[], description="What to try, in sentences.")
    evidence: list[str] = Field(default=[], description="The figures behind the outcome.")

    @property
    def title(self) -> str:
        """The outcome as readers see it."""
        return outcome_title(self.outcome, self.reservations)


class MergeDifference(Part):
    """How far merging the adapter moved the next-token predictions on a sample text."""

    logits_mean_absolute: float = Field(ge=0)
    kl_nats: float = Field(description="Kullback-Leibler divergence, nats per token.")


class Origin(Part):
    """What the project knows of an adapted model before it is uploaded."""

    document_schema: Literal["lmadapt-lineage/2", "lmadapt-lineage/3"] = Field(
        default="lmadapt-lineage/3", alias="schema"
    )
    git: GitState
    stages: dict[str, StageFiles] = Field(description="By stage, from dvc.lock.")
    runs: dict[str, StageRun] = Field(
        description="By stage, of those that ran on the machine that registered the version; "
        "stages restored from a cache are missing."
    )
    params: dict[str, Any] = Field(description="params.yaml, all sections.")
    metrics: dict[str, Any] = Field(
        description="metrics/STAGE.json by stage, of the stages before evaluate."
    )
    adapter_sha256: Sha256
    base_sha256: Sha256
    chat_template_sha256: Sha256
    evaluation_sha256: Sha256
    requirements_lock_sha256: Sha256 | None
    alpha_scale: float = Field(description="The shipped lora_alpha is the trained one times this.")
    exam: ExamFigures | None = Field(
        default=None, description="Null in documents of releases that did not record it."
    )
    judged: Judged | None = Field(
        default=None, description="Null in documents of earlier releases."
    )
    verdict: LineageVerdict
    figures: dict[str, float] = Field(
        description="GROUP_accuracy_MODEL and GROUP_change (adapted - reference), shares of 1."
    )

    def output_md5(self, path: Path) -> str | None:
        """MD5 or ETag of what a stage wrote at `path`; None when no stage wrote it."""
        for stage in self.stages.values():
            if str(path) in stage.outs:
                return stage.outs[str(path)]
        return None

    def content_sha256(self, artifact: str) -> str:
        """What tells one version from another: adapter, base, evaluation and kind of artifact."""
        parts = [self.adapter_sha256, self.base_sha256, self.evaluation_sha256, artifact]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Lineage(Origin):
    """Where a registered version came from, and what it ships."""

    artifact: Artifact
    artifact_sha256: Sha256
    predictions_sha256: Sha256
    dvc_stores: list[str] = Field(description="DVC's cache, then its default remote.")
    merge_difference: MergeDifference | None = Field(
        default=None, description="Null when the artifact is an adapter."
    )


def lineage_schema() -> str:
    """The JSON schema of lineage.json, as docs/lineage.schema.json holds it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema |= Lineage.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(lineage_schema(), end="")
