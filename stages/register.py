"""Registration: the adapted model with its lineage becomes a version in the registry, with the aliases it earned."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import Field

from lmadapt.base_reference import BaseReference
from lmadapt.dvc_store import store_addresses
from lmadapt.files import folder_sha256, read_json, write_json
from lmadapt.lineage import Lineage, collect_lineage, output_md5
from lmadapt.sections import Section
from lmadapt.stage import run


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
    with ThreadPoolExecutor() as pool:  # files are hashed while MLflow is imported
        collecting = pool.submit(
            collect_lineage, project, pretrained=pretrained, adapter=adapter, evaluation=evaluation, lock=lock
        )
        from lmadapt.promotion import promote
        from lmadapt.registry import connect, find_version

        client = connect(os.environ.get("MLFLOW_TRACKING_URI") or params.tracking_uri, project)
        lineage = collecting.result() | {"artifact": params.artifact}
    parts = [lineage[f"{part}_sha256"] for part in ("adapter", "base", "evaluation")]
    content = hashlib.sha256("\n".join([*parts, params.artifact]).encode()).hexdigest()
    version = find_version(client, params.model_name, content)
    if version is None or version.tags.get("status") != "verified":
        version = _upload_and_verify(
            params, client, lineage, content, pretrained, adapter, [evaluation, predictions, report]
        )
    promotion = promote(client, version, candidate=True)
    print(f"{promotion.model_name} version {promotion.version} is now {' and '.join(promotion.aliases)}")
    if promotion.refusal:
        print(f"It was refused the alias champion: {promotion.refusal}")
    found = {"adapter_sha256": lineage["adapter_sha256"], "base_sha256": lineage["base_sha256"]}
    earned = {"model_name": promotion.model_name, "version": promotion.version, "aliases": promotion.aliases}
    write_json(metrics, earned | found)


def _upload_and_verify(
    params: RegisterParams,
    client: Any,
    lineage: Lineage,
    content: str,
    pretrained: Path,
    adapter: Path,
    documents: list[Path],
) -> Any:
    from lmadapt.load_back import trained_logits, verify
    from lmadapt.model_card import write_card
    from lmadapt.registry import find_experiment, find_version, flat_tags, upload_version
    from lmadapt.shipping import ship_adapter, ship_merged

    scale = lineage["alpha_scale"]
    project, stores = Path.cwd(), store_addresses(Path.cwd())
    lineage["dvc_stores"] = stores
    with TemporaryDirectory() as temp:
        shipped = Path(temp) / "model"
        shipped.mkdir()
        if params.artifact == "adapter":
            ship_adapter(adapter, pretrained, shipped, scale=scale)
            md5 = output_md5(lineage, pretrained.as_posix())
            base = asdict(BaseReference(str(pretrained.resolve()), lineage["base_sha256"], md5, stores))
            expected = trained_logits(pretrained, adapter, scale=scale)
        else:
            lineage["merge_difference"] = ship_merged(adapter, pretrained, shipped, scale=scale)
            base = {}
            expected = trained_logits(shipped, None, scale=1.0)
        card = write_card(
            shipped / "README.md",
            lineage,
            read_json(documents[0]),
            name=params.model_name,
            base_license=params.base_license,
            data_license=params.data_license,
        )
        lineage["artifact_sha256"] = folder_sha256(shipped)
        version = find_version(client, params.model_name, content) or upload_version(
            client,
            params.model_name,
            find_experiment(client, params.experiment, project),
            shipped=shipped,
            config=base | {"artifact_sha256": lineage["artifact_sha256"]},
            lineage=lineage,
            tags=flat_tags(lineage, content),
            documents=[*documents, card],
        )
        verify(client, version, expected)
    return client.get_model_version(version.name, version.version)


if __name__ == "__main__":
    run(register)
