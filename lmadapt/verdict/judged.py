"""What an evaluation judges: the artifact that will be served, against the model in use now."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lmadapt.core.errors import UserError

Artifact = Literal["adapter", "merged"]
Precision = Literal["nf4", "bf16"]

# What a model of a comparison is called, in the order of training. "reference" and "adapted" are
# judged, each as it runs; "base", "pretrained" and "adapted" run alike.
MODELS = ("reference", "base", "pretrained", "adapted")
PRECISIONS = {"nf4": "NF4", "bf16": "bf16"}


class Judged(BaseModel):
    """What the verdict compares: the model in use now, and the artifact that will be served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str = Field(
        min_length=1,
        description="The model in use now, as evaluate.reference names it: base, "
        "models:/NAME@ALIAS or a folder.",
    )
    reference_version: int | None = Field(
        description="The version that the name stood for when it was asked. Null for a model that "
        "is not in the registry."
    )
    reference_precision: Precision
    reference_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = Field(
        description="SHA-256 of its folder; with an adapter, of the SHA-256 of base and adapter in "
        "hexadecimal, with a line feed between them."
    )
    artifact: Artifact = Field(
        description="adapter: served over its base; merged: one whole model."
    )
    precision: Precision = Field(
        description="In which the artifact is served. A merged model in nf4 is quantised when it "
        "is loaded."
    )

    @property
    def reference_title(self) -> str:
        """The reference in words, such as `base, bf16`."""
        version = f" (version {self.reference_version})" if self.reference_version else ""
        return f"{self.reference}{version}, {PRECISIONS[self.reference_precision]}"

    @property
    def artifact_title(self) -> str:
        """The artifact in words, such as `adapter over NF4`."""
        return artifact_title(self.artifact, self.precision)

    @property
    def reference_is_base(self) -> bool:
        """Whether the reference and the model called "base" are one model in one precision."""
        return self.reference == "base" and self.reference_precision == self.precision


def require_judged(judged: Judged, artifact: Artifact, precision: Precision) -> None:
    """Raise UserError unless the verdict is about this artifact in this precision."""
    if (artifact, precision) != (judged.artifact, judged.precision):
        raise UserError(
            f"the verdict is about the model as {judged.artifact_title}, and register would ship "
            f"it as {artifact_title(artifact, precision)} (register.artifact, evaluate.precision "
            "in params.yaml): `dvc repro evaluate` judges what will be served, or set both back"
        )


def artifact_title(artifact: Artifact, precision: Precision) -> str:
    """An artifact in words: `adapter over NF4`, `merged, bf16` …"""
    if artifact == "adapter":
        return f"adapter over {PRECISIONS[precision]}"
    return "merged, bf16" if precision == "bf16" else "merged, quantised to NF4"
