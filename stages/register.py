"""Registration: the adapted model becomes a version in the registry, with the aliases it earned."""

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from lmadapt.core.files import write_json
from lmadapt.core.sections import Section
from lmadapt.core.stage_runner import run
from lmadapt.provenance.collect import collect_origin
from lmadapt.registry.exam_ledger import Ledger
from lmadapt.registry.promotion import promote, settled_standing
from lmadapt.verdict.figures import read_evaluation
from lmadapt.verdict.judged import Artifact, require_judged


class RegisterParams(Section):
    """Where versions go; MLFLOW_TRACKING_URI in the environment overrides `tracking_uri`."""

    model_name: str = Field(pattern=r"^[\w-]+( [\w-]+)*$")
    tracking_uri: str = Field(min_length=1)
    experiment: str = Field(min_length=1)
    artifact: Artifact
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
    """Upload the model, check that it loads back equal, and point `candidate` to the version.

    The version also becomes `champion`, if it passes the test. The same adapter, base and
    evaluation are one version, however often they are registered. Raises UserError when what would
    be shipped is not what was judged.
    """
    metrics.unlink(missing_ok=True)
    project = Path.cwd()
    origin = collect_origin(
        project, pretrained=pretrained, adapter=adapter, evaluation=evaluation, lock=lock
    )
    precision = origin.params["evaluate"]["precision"]
    require_judged(read_evaluation(evaluation).judged, params.artifact, precision)
    address = os.environ.get("MLFLOW_TRACKING_URI") or params.tracking_uri
    content = origin.content_sha256(params.artifact)
    standing = settled_standing(address, project, params.model_name, content)
    if standing is None:  # MLflow and torch take seconds to import: only when there is work to do
        from lmadapt.registry.card import Licenses
        from lmadapt.registry.connection import connect
        from lmadapt.registry.registration import Destination, ModelFiles, register_version

        client = connect(address, project)
        licenses = Licenses(base=params.base_license, data=params.data_license)
        version = register_version(
            client,
            origin,
            ModelFiles(pretrained, adapter, evaluation, predictions, report),
            Destination(params.model_name, params.experiment, params.artifact, licenses),
        )
        standing = promote(client, version, candidate=True)
    aliases = " and ".join(standing.aliases)
    print(f"{standing.model_name} version {standing.version} has the alias {aliases}")
    if standing.refusal:
        print(f"It is not champion: {standing.refusal}")
    if standing.ledger:
        print(standing.ledger.in_words())
    registered = {
        "model_name": standing.model_name,
        "version": standing.version,
        "aliases": standing.aliases,
        "adapter_sha256": origin.adapter_sha256,
        "base_sha256": origin.base_sha256,
        "exam": _exam(standing.ledger),
    }
    write_json(metrics, registered)


def _exam(ledger: Ledger | None) -> dict[str, Any] | None:
    if ledger is None:
        return None
    return {
        "sha256": ledger.exam_sha256,
        "models_judged": ledger.models,
        "chance_that_one_passes_by_luck": round(ledger.error, 6),
        "in_words": ledger.in_words(),
    }


if __name__ == "__main__":
    run(register)
