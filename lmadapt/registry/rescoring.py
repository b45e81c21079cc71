"""Asks the present champion the items of a version that is to replace it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.evaluation.answer_cache import AnswerCache
from lmadapt.evaluation.answers import answer_exam
from lmadapt.evaluation.exam import make_exam
from lmadapt.evaluation.variants import CachedModel
from lmadapt.provenance.document import Lineage
from lmadapt.provenance.trace_document import read_stored
from lmadapt.registry.scores import read_scores
from lmadapt.registry.verify import load_version
from lmadapt.registry.versions import aliased_version, read_lineage
from lmadapt.verdict.decision import Scored


def champion_scores_on_items_of(client: MlflowClient, version: ModelVersion) -> Scored | None:
    """The champion's scores on the version's items, which it answers now.

    None when there is no champion, when it answered the same items in its own evaluation, or when
    the version has no scores. Raises UserError when DVC's stores no longer hold the items.
    """
    champion = aliased_version(client, version.name, "champion")
    scores = read_scores(client, version)
    if champion is None or scores is None:
        return None
    stored = read_scores(client, champion)
    if stored and np.array_equal(stored.ids, scores.ids):
        return None
    answered = _ask(champion, read_lineage(client, version))
    # Without graded scores: right and wrong answers decide.
    return replace(scores, scores=answered, graded=None, temperature=None)


def _ask(champion: ModelVersion, lineage: Lineage) -> Any:
    """The champion's score on each domain and general item of the lineage's data."""
    items = read_stored(lineage, Path("data/curated/items.parquet"))
    judged = [item for item in items if item["group"] in ("domain", "general")]
    settings = lineage.params["evaluate"]
    model, tokenizer = load_version(champion)
    cached = CachedModel(lambda: model, AnswerCache(Path(":memory:"), "champion"))
    exam = make_exam(judged, [], tokenizer, heldout_tokens=0, seed=settings["seed"])
    return answer_exam(
        cached,
        tokenizer,
        exam,
        name=f"champion, version {champion.version}",
        batch_tokens=settings["batch_tokens"],
        max_new_tokens=settings["max_new_tokens"],
    ).scores
