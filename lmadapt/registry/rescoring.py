"""The present champion, put to the items of a version that wants its place."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.evaluation.answer_cache import AnswerCache
from lmadapt.evaluation.answers import answer_exam
from lmadapt.evaluation.exam import make_exam
from lmadapt.evaluation.variants import CachedModel
from lmadapt.provenance.lineage import Lineage
from lmadapt.provenance.trace_document import read_stored
from lmadapt.registry.promotion import read_scores
from lmadapt.registry.verify import load_version
from lmadapt.registry.versions import aliased_version, read_lineage
from lmadapt.verdict.decision import Scored


def scores_on_items_of(client: MlflowClient, version: ModelVersion) -> Scored | None:
    """The champion's scores on the version's items, put to it now; None without a champion, or if it answered them.

    Raises UserError when DVC no longer has the items.
    """
    champion = aliased_version(client, version.name, "champion")
    before, after = (read_scores(client, one) if one else None for one in (champion, version))
    if champion is None or after is None or (before and np.array_equal(before.ids, after.ids)):
        return None
    scores = _put_to(champion, read_lineage(client, version))
    return Scored(after.ids, after.groups, after.categories, after.clusters, scores)


def _put_to(champion: ModelVersion, lineage: Lineage) -> Any:
    rows = read_stored(lineage, Path("data/curated/items.parquet"))
    settings, asked = (
        lineage["params"]["evaluate"],
        [row for row in rows if row["group"] in ("domain", "general")],
    )
    model, tokenizer = load_version(champion)
    champion_model = CachedModel(lambda: model, AnswerCache(Path(":memory:"), "champion"))
    exam = make_exam(asked, [], tokenizer, heldout_tokens=0, seed=settings["seed"])
    options = {name: settings[name] for name in ("batch_tokens", "max_new_tokens")}
    return answer_exam(
        champion_model, tokenizer, exam, name=f"champion, version {champion.version}", **options
    ).scores
