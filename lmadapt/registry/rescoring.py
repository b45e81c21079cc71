"""Asks versions the items of a version that is to replace one of them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.core.errors import UserError
from lmadapt.evaluation.answer_cache import AnswerCache
from lmadapt.evaluation.answers import Answers, answer_exam
from lmadapt.evaluation.exam import ABILITIES, Exam, make_exam
from lmadapt.evaluation.exam_identity import item_sha256
from lmadapt.evaluation.lm_eval_tasks import answer_tasks, task_item
from lmadapt.evaluation.variants import CachedModel
from lmadapt.provenance.document import Lineage
from lmadapt.provenance.trace_document import read_stored
from lmadapt.registry.anchor import anchor_of
from lmadapt.registry.scores import read_scores, same_items
from lmadapt.registry.verify import load_version
from lmadapt.registry.versions import aliased_version, read_lineage
from lmadapt.verdict.decision import Scored

ITEMS = Path("data/curated/items.parquet")


def scores_on_items_of(client: MlflowClient, version: ModelVersion) -> dict[str, Scored]:
    """By number: scores of champion and anchor on the version's items, which they answer now.

    Empty when there is no champion, or when both answered the same items in their own evaluation.
    Raises UserError when the version's own predictions do not say what was asked, and when DVC's
    stores no longer hold the items.
    """
    rivals = _rivals(client, version)
    if not rivals:
        return {}
    own = read_scores(client, version)
    if own is None:
        raise UserError(
            f"{version.name} version {version.version}: its predictions do not say what was asked; "
            "an earlier release of lmadapt wrote them: check out its commit, run `dvc repro` and "
            "promote the new version"
        )
    lineage = read_lineage(client, version)
    asked = {}
    for role, rival in rivals.items():
        stored = read_scores(client, rival)
        if not (stored and same_items(stored, own)):
            asked[str(rival.version)] = _ask(rival, role, own, lineage)
    return asked


def _rivals(client: MlflowClient, version: ModelVersion) -> dict[str, ModelVersion]:
    """By role: the versions that this one is compared with when it is promoted."""
    champion = aliased_version(client, version.name, "champion")
    if champion is None or champion.version == version.version:
        return {}
    anchor = anchor_of(client, version.name)
    if anchor is None or anchor.version in (champion.version, version.version):
        return {"champion": champion}
    return {"champion": champion, "anchor": anchor}


def _ask(rival: ModelVersion, role: str, own: Scored, lineage: Lineage) -> Scored:
    """The scores of a rival on the items that a version answered, whose lineage this is."""
    model, tokenizer = load_version(rival)
    cached = CachedModel(lambda: model, AnswerCache(Path(":memory:"), role))
    name = f"{role}, version {rival.version}"
    answered = _answers(cached, tokenizer, name, lineage, own)
    # Without graded scores: right and wrong answers decide.
    return replace(own, scores=answered, graded=None, temperature=None)


def ask_items(
    model: CachedModel,
    tokenizer: Any,
    items: Sequence[Mapping[str, Any]],
    *,
    name: str,
    settings: Mapping[str, Any],
) -> tuple[Exam, Answers]:
    """An exam of these rows of the table ITEM, and the model's answers to it.

    `settings` is section `evaluate` of a version's params. Raises UserError as `make_exam` does.
    """
    exam = make_exam(items, [], tokenizer, heldout_tokens=0, seed=settings["seed"])
    answers = answer_exam(
        model,
        tokenizer,
        exam,
        name=name,
        batch_tokens=settings["batch_tokens"],
        max_new_tokens=settings["max_new_tokens"],
    )
    return exam, answers


def _answers(
    model: CachedModel, tokenizer: Any, name: str, lineage: Lineage, own: Scored
) -> np.ndarray:
    """A score for each of the items that `own` names; the answers to the others are not asked for.

    Raises UserError when the data behind the lineage lack one of them.
    """
    settings = lineage.params["evaluate"]
    wanted = Counter(str(identity).partition("#")[0] for identity in own.ids)
    items = [item for item in read_stored(lineage, ITEMS) if item["group"] in ABILITIES]
    items = [item for item in items if item_sha256(item) in wanted]
    exam, answers = ask_items(model, tokenizer, items, name=name, settings=settings)
    found: dict[str, list[float]] = defaultdict(list)
    for item, score in zip(exam.items, answers.scores, strict=True):
        found[item_sha256(item)].append(float(score))
    for answer in answer_tasks(model, tokenizer, settings.get("lm_eval_tasks", [])):
        found[item_sha256(task_item(answer))].append(answer["score"])
    missing = [content for content, count in wanted.items() if len(found[content]) != count]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(own.ids)} items of this version are not in its {ITEMS} or "
            f"evaluate.lm_eval_tasks any more; the first has the content {missing[0][:16]}…"
        )
    return np.array([found[str(identity).partition("#")[0]].pop(0) for identity in own.ids])
