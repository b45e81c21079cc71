"""Makes a verified version of an adapted model: export, card, upload, verification."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.core.dvc_store import store_addresses
from lmadapt.core.files import file_sha256, folder_sha256
from lmadapt.provenance.document import Lineage, MergeDifference, Origin
from lmadapt.provenance.redaction import redact_secrets
from lmadapt.registry.base_reference import BaseReference
from lmadapt.registry.card import Licenses, write_card
from lmadapt.registry.export import export_adapter, export_merged
from lmadapt.registry.upload import find_experiment, upload_version, version_tags
from lmadapt.registry.verify import Logits, adapter_logits, merged_logits, verify
from lmadapt.registry.versions import find_version
from lmadapt.verdict.figures import EvaluationFigures, read_evaluation
from lmadapt.verdict.judged import Artifact, Precision


@dataclass(frozen=True)
class Destination:
    """Where a version goes, and in what form."""

    model_name: str
    experiment: str
    artifact: Artifact
    licenses: Licenses


@dataclass(frozen=True)
class ModelFiles:
    """The files of a project that a version is made from."""

    pretrained: Path  # folder of the base that the adapter was trained over
    adapter: Path
    evaluation: Path  # metrics/evaluate.json
    predictions: Path
    report: Path


@dataclass(frozen=True)
class Export:
    """What was written for shipping: how to find its base, and the logits it must give back."""

    logits: Logits
    base: BaseReference | None = None  # None for a merged model
    merge_difference: MergeDifference | None = None  # None for an adapter


def register_version(
    client: MlflowClient, origin: Origin, files: ModelFiles, destination: Destination
) -> ModelVersion:
    """The verified version of this content; it is uploaded unless it is in the registry already.

    It runs in the precision in which it was judged. Raises UserError when the registry gives back
    another model, Unavailable when it cannot be reached now.
    """
    name, content = destination.model_name, origin.content_sha256(destination.artifact)
    version = find_version(client, name, content)
    if version and version.tags.get("status") == "verified":
        return version
    figures = read_evaluation(files.evaluation)
    precision = figures.judged.precision
    stores = list(redact_secrets(store_addresses(Path.cwd())))
    with TemporaryDirectory() as temp:
        shipped = Path(temp) / "model"
        shipped.mkdir()
        export = _export(
            origin, files, destination.artifact, precision, stores=stores, shipped=shipped
        )
        card = shipped / "README.md"
        _write_card(card, origin, figures, destination, export.merge_difference)
        lineage = Lineage(
            **origin.model_dump(),
            artifact=destination.artifact,
            artifact_sha256=folder_sha256(shipped),
            predictions_sha256=file_sha256(files.predictions),
            dvc_stores=stores,
            merge_difference=export.merge_difference,
        )
        base = asdict(export.base) if export.base else {}
        version = find_version(client, name, content) or upload_version(
            client,
            name,
            find_experiment(client, destination.experiment, Path.cwd()),
            shipped=shipped,
            config=base | {"artifact_sha256": lineage.artifact_sha256, "precision": precision},
            lineage=lineage,
            tags=version_tags(lineage, content),
            documents=[files.evaluation, files.predictions, files.report, card],
        )
        verify(client, version, export.logits)
    return version


def _export(
    origin: Origin,
    files: ModelFiles,
    artifact: Artifact,
    precision: Precision,
    *,
    stores: Sequence[str],
    shipped: Path,
) -> Export:
    """Write the artifact to the empty folder `shipped`."""
    pretrained, adapter, scale = files.pretrained, files.adapter, origin.alpha_scale
    if artifact == "merged":
        difference = export_merged(adapter, pretrained, shipped, scale=scale)
        return Export(merged_logits(shipped, precision), merge_difference=difference)
    export_adapter(adapter, pretrained, shipped, scale=scale)
    base = BaseReference(
        base_folder=str(pretrained.resolve()),
        base_sha256=origin.base_sha256,
        base_dvc_md5=origin.output_md5(pretrained),
        dvc_stores=stores,
    )
    logits = adapter_logits(pretrained, adapter, scale=scale, precision=precision)
    return Export(logits, base=base)


def _write_card(
    card: Path,
    origin: Origin,
    figures: EvaluationFigures,
    destination: Destination,
    merge_difference: MergeDifference | None,
) -> None:
    write_card(
        card,
        origin,
        figures,
        name=destination.model_name,
        merge_difference=merge_difference,
        licenses=destination.licenses,
    )
