"""Registration: the adapted model with its lineage becomes a version in the registry, with the aliases it earned."""

import hashlib
import os
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import Field

from lmadapt.core.dvc_store import store_addresses
from lmadapt.core.files import file_sha256, folder_sha256, read_json, write_json
from lmadapt.core.sections import Section
from lmadapt.core.stage_runner import run
from lmadapt.provenance.lineage import Lineage, collect_lineage, output_md5, without_passwords
from lmadapt.registry.base_reference import BaseReference
from lmadapt.registry.standing import unchanged_standing


class RegisterParams(Section):
    """Where versions go; MLFLOW_TRACKING_URI in the environment wins over `tracking_uri`."""

    model_name: str = Field(pattern=r"^[\w-]+( [\w-]+)*$")
    tracking_uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)
    artifact: Literal["adapter", "merged"]
    base_license: str = Field(min_length=1)
    data_license: str = Field(min_length=1)


def register(
    params: RegisterParams,
    *,
    pretrained: Path,
    adapter: Path,
    evaluation: Path,
    predictions: Path,
    report: Path,
    lock: Path,
    metrics: Path,
) -> None:
    """Upload the model, load it back, compare, and point `candidate` (and, if it may, `champion`) to the version.

    The same adapter, base and evaluation are one version, however often they are registered.
    """
    metrics.unlink(missing_ok=True)
    project = Path.cwd()
    lineage = collect_lineage(
        project, pretrained=pretrained, adapter=adapter, evaluation=evaluation, lock=lock
    )
    lineage |= {"artifact": params.artifact}
    parts = [lineage[f"{part}_sha256"] for part in ("adapter", "base", "evaluation")]
    content = hashlib.sha256("\n".join([*parts, params.artifact]).encode()).hexdigest()
    address = os.environ.get("MLFLOW_TRACKING_URI") or params.tracking_uri
    standing = unchanged_standing(address, project, params.model_name, content)
    if standing is None:
        from lmadapt.registry.promotion import promote
        from lmadapt.registry.versions import connect, find_version

        client = connect(address, project)
        version = find_version(client, params.model_name, content)
        if version is None or version.tags.get("status") != "verified":
            version = _ship(
                params,
                client,
                lineage,
                content,
                pretrained,
                adapter,
                [evaluation, predictions, report],
            )
        standing = promote(client, version, candidate=True)
    print(
        f"{standing.model_name} version {standing.version} is now {' and '.join(standing.aliases)}"
    )
    if standing.refusal:
        print(f"It was refused the alias champion: {standing.refusal}")
    found = {"adapter_sha256": lineage["adapter_sha256"], "base_sha256": lineage["base_sha256"]}
    earned = {
        "model_name": standing.model_name,
        "version": standing.version,
        "aliases": standing.aliases,
    }
    write_json(metrics, earned | found)


def _ship(
    params: RegisterParams,
    client: Any,
    lineage: Lineage,
    content: str,
    pretrained: Path,
    adapter: Path,
    documents: list[Path],
) -> Any:
    """The version, uploaded if it is not there yet, and verified."""
    from lmadapt.registry.card import write_card
    from lmadapt.registry.export import ship_adapter, ship_merged
    from lmadapt.registry.verify import trained_logits, verify
    from lmadapt.registry.versions import find_experiment, find_version, flat_tags, upload_version

    scale = lineage["alpha_scale"]
    lineage["dvc_stores"] = without_passwords(store_addresses(Path.cwd()))
    with TemporaryDirectory() as temp:
        shipped = Path(temp) / "model"
        shipped.mkdir()
        if params.artifact == "adapter":
            ship_adapter(adapter, pretrained, shipped, scale=scale)
            md5 = output_md5(lineage, pretrained)
            base = BaseReference(
                str(pretrained.resolve()), lineage["base_sha256"], md5, lineage["dvc_stores"]
            )
            expected = trained_logits(pretrained, adapter, scale=scale)
        else:
            lineage["merge_difference"], base = (
                ship_merged(adapter, pretrained, shipped, scale=scale),
                None,
            )
            expected = trained_logits(shipped, None, scale=1.0)
        licenses = {"base": params.base_license, "data": params.data_license}
        card, figures = shipped / "README.md", read_json(documents[0])
        write_card(card, lineage, figures, name=params.model_name, licenses=licenses)
        lineage |= {
            "artifact_sha256": folder_sha256(shipped),
            "predictions_sha256": file_sha256(documents[1]),
        }
        version = find_version(client, params.model_name, content) or upload_version(
            client,
            params.model_name,
            find_experiment(client, params.experiment, Path.cwd()),
            shipped=shipped,
            config=(asdict(base) if base else {}) | {"artifact_sha256": lineage["artifact_sha256"]},
            lineage=lineage,
            tags=flat_tags(lineage, content),
            documents=[*documents, card],
        )
        verify(client, version, expected)
    return version


if __name__ == "__main__":
    run(register)
