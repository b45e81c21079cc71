"""Registration: the adapter with its lineage becomes a version in the MLflow registry, with the aliases it earned."""

import hashlib
import os
from pathlib import Path

from pydantic import Field

from lmadapt.files import write_json
from lmadapt.lineage import collect_lineage, refer_to_base
from lmadapt.registry import (
    connect,
    find_experiment,
    find_version,
    flat_tags,
    promote,
    trained_logits,
    upload_version,
    verify,
)
from lmadapt.sections import Section
from lmadapt.stage import run


class RegisterParams(Section):
    """Where versions go; MLFLOW_TRACKING_URI in the environment wins over `tracking_uri`."""

    model_name: str = Field(pattern=r"^[^/:.%\"']+$")
    tracking_uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)


def register(
    params: RegisterParams,
    *,
    pretrained: Path,
    adapter: Path,
    evaluation: Path,
    report: Path,
    lock: Path,
    metrics: Path,
) -> None:
    """Upload the adapter, load it back, compare, and point `candidate` (and on SHIP `champion`) to the version.

    The same adapter, base and evaluation are one version, however often they are registered.
    """
    metrics.unlink(missing_ok=True)
    project = Path.cwd()
    lineage = collect_lineage(project, pretrained=pretrained, adapter=adapter, evaluation=evaluation, lock=lock)
    parts = [lineage[f"{part}_sha256"] for part in ("adapter", "base", "evaluation")]
    content = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    client = connect(os.environ.get("MLFLOW_TRACKING_URI") or params.tracking_uri, project)
    version = find_version(client, params.model_name, content)
    if version is None or version.tags.get("status") != "verified":
        expected = trained_logits(pretrained, adapter)
        version = version or upload_version(
            client,
            params.model_name,
            find_experiment(client, params.experiment, project),
            adapter=adapter,
            base=refer_to_base(pretrained, lineage, project),
            lineage=lineage,
            tags=flat_tags(lineage, content),
            description=f"{lineage['verdict']['outcome']}: {lineage['verdict']['reason']}",
            report=report,
        )
        verify(client, version, expected)
    registered = promote(client, version, lineage["verdict"])
    print(f"{registered.model_name} version {registered.version} is now {' and '.join(registered.aliases)}")
    if registered.refusal:
        print(f"It was refused the alias champion: {registered.refusal}")
    write_json(
        metrics,
        {
            "model_name": registered.model_name,
            "version": registered.version,
            "aliases": registered.aliases,
            "adapter_sha256": lineage["adapter_sha256"],
            "base_sha256": lineage["base_sha256"],
        },
    )


if __name__ == "__main__":
    run(register)
