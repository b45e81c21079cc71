"""The model in use now, which the verdict compares with the artifact that will be served."""

from dataclasses import dataclass
from pathlib import Path

from lmadapt.core.errors import UserError
from lmadapt.evaluation.variants import ModelVariant
from lmadapt.models.loading import is_adapter
from lmadapt.verdict.judged import Artifact, Judged, Precision


@dataclass(frozen=True)
class Reference:
    """A model as params name it and as it is loaded."""

    name: str  # base, models:/NAME@ALIAS or a folder
    variant: ModelVariant
    version: int | None = None  # of a model in the registry


def local_reference(name: str, precision: Precision, base: Path) -> Reference:
    """The base, or the whole model in the folder `name`.

    Raises UserError when the folder has no model, or one of which the base is not known.
    """
    folder = base if name == "base" else Path(name)
    if is_adapter(folder):
        raise UserError(
            f"evaluate.reference: {name} holds an adapter, and the evaluation does not know its "
            "base; allowed: base, models:/NAME@ALIAS, or a folder with a whole model"
        )
    if not (folder / "config.json").is_file():
        raise UserError(
            f"evaluate.reference: {name}: no model here (config.json is missing); allowed: base, "
            "models:/NAME@ALIAS, or a folder with a whole model"
        )
    return Reference(name, ModelVariant(folder, precision))


def served_variant(
    pretrained: Path, adapter: Path, artifact: Artifact, precision: Precision
) -> ModelVariant:
    """The model that register will ship, as it will run.

    Raises UserError when all weights were trained, so that there is no adapter to ship.
    """
    if artifact == "adapter" and not is_adapter(adapter):
        raise UserError(
            "register.artifact is adapter, but sft.method: full trains no adapter; allowed: merged"
        )
    return ModelVariant(pretrained, precision, adapter, merged=artifact == "merged")


def judged(reference: Reference, served: ModelVariant) -> Judged:
    """What is compared, for the figures."""
    whole = served.merged or served.adapter is None or not is_adapter(served.adapter)
    return Judged(
        reference=reference.name,
        reference_version=reference.version,
        reference_precision=reference.variant.precision,
        reference_sha256=reference.variant.weights_sha256(),
        artifact="merged" if whole else "adapter",
        precision=served.precision,
    )
