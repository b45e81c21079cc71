"""Opens the sealed part of an exam: asks a version and the model in use, and judges them on it.

Only a promotion does this, after everything else has passed, and each opening is counted: what has
been seen once is no surprise the second time.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.core.dvc_store import fetch
from lmadapt.core.errors import UserError
from lmadapt.evaluation.answer_cache import AnswerCache
from lmadapt.evaluation.changes import scored
from lmadapt.evaluation.sealed_items import Rows, split_sealed
from lmadapt.evaluation.variants import CachedModel, ModelVariant, open_variant
from lmadapt.models.loading import load_tokenizer
from lmadapt.provenance.document import Lineage
from lmadapt.provenance.trace_document import read_stored
from lmadapt.registry.exam_ledger import record
from lmadapt.registry.promotion import Opening, champion_refusal
from lmadapt.registry.rescoring import ITEMS, ask_items
from lmadapt.registry.succession import Asked, compare_versions
from lmadapt.registry.verify import load_version
from lmadapt.registry.versions import aliased_version, read_lineage
from lmadapt.verdict.decision import Scored, judge

BASE = Path("models/base")


def open_if_all_else_passes(
    client: MlflowClient, version: ModelVersion, asked: Asked
) -> Opening | None:
    """Open the sealed part for a version that nothing else keeps from becoming champion.

    None when the exam has no such part, or when something else refuses the version: then nothing is
    opened.
    """
    champion = aliased_version(client, version.name, "champion")
    if not int(version.tags.get("exam_sealed_items", 0)):
        return None
    if (champion and champion.version == version.version) or champion_refusal(
        client, version, champion, asked=asked
    ):
        return None
    return open_sealed_part(client, version, champion)


def open_sealed_part(
    client: MlflowClient, version: ModelVersion, champion: ModelVersion | None
) -> Opening:
    """What the sealed items say about a version.

    The verdict's test is made on them alone, against the champion, or against the base that the
    version was trained from when there is no champion. The opening is written into the ledger
    before anything is asked. Raises UserError when DVC's stores no longer hold items or base.
    """
    lineage = read_lineage(client, version)
    items = _sealed(lineage)
    record(client, version, "opened")
    if champion is None:
        before, against = _base_scores(lineage, items), "the base"
    else:
        before, against = _version_scores(champion, lineage, items), f"version {champion.version}"
    after = _version_scores(version, lineage, items)
    earlier = read_lineage(client, champion) if champion else lineage
    compared, level = compare_versions(before, after, lineage, earlier)
    verdict = judge(compared, [], significance=level)
    number = str(champion.version) if champion else ""
    if verdict.outcome == "SHIP":
        return Opening(number, "")
    return Opening(
        number, f"on the {len(items):,} sealed items, against {against}: {verdict.reason}"
    )


def _sealed(lineage: Lineage) -> Rows:
    _, sealed = split_sealed(
        read_stored(lineage, ITEMS), lineage.params["evaluate"]["sealed_fraction"]
    )
    expected = lineage.exam.sealed_items if lineage.exam else 0
    if len(sealed) != expected:
        raise UserError(
            f"{ITEMS} of this version has {len(sealed)} sealed items; its evaluation left out "
            f"{expected}: another release of lmadapt drew them"
        )
    return sealed


def _version_scores(version: ModelVersion, lineage: Lineage, items: Rows) -> Scored:
    model, tokenizer = load_version(version)
    cached = CachedModel(lambda: model, AnswerCache(Path(":memory:"), "sealed"))
    return _scores(cached, tokenizer, f"version {version.version}, sealed items", lineage, items)


def _base_scores(lineage: Lineage, items: Rows) -> Scored:
    settings = lineage.params["evaluate"]  # earlier releases ran both sides in one precision
    precision = settings.get("reference_precision", settings["precision"])
    with TemporaryDirectory() as temp:
        folder = Path(temp) / "base"
        fetch(lineage.output_md5(BASE), lineage.dvc_stores, folder)
        answers = Path(temp) / "answers.sqlite"
        with open_variant(ModelVariant(folder, precision), answers) as model:
            return _scores(model, load_tokenizer(folder), "base, sealed items", lineage, items)


def _scores(model: CachedModel, tokenizer: Any, name: str, lineage: Lineage, items: Rows) -> Scored:
    settings = lineage.params["evaluate"]
    exam, answers = ask_items(model, tokenizer, items, name=name, settings=settings)
    return scored(exam, answers)
