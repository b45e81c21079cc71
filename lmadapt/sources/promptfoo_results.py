"""Results of promptfoo: what `promptfoo eval --output` writes as .json or .jsonl.

One entry of `results.results` is one test with one prompt and one provider: `vars`, `testCase`,
`success`, `score`, `namedScores`, `failureReason` (release 0.123).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.core.files import read_json
from lmadapt.sources.item_scores import (
    Choice,
    ItemScore,
    Results,
    checked_score,
    content_hash,
    first_names,
    read_rows,
    text_field,
)

TASK = "tests"
ERROR = 2  # ResultFailureReason.ERROR: the provider gave no answer

Row = tuple[str, Mapping[str, Any]]


def read_promptfoo(path: Path, choice: Choice) -> Results:
    """The scores of one provider with one prompt.

    The score is `success`, or by choice `score` or a named score. A test that was repeated occurs
    several times. Raises UserError naming file and test: several providers or prompts and none
    chosen, tests that ended in an error, a value that is no score from 0 to 1.
    """
    rows = _of_one_model(path, _rows(path), choice)
    failed = [place for place, row in rows if row.get("failureReason") == ERROR]
    if failed:
        raise UserError(
            f"{path}: {len(failed):,} tests ended in an error and have no answer: "
            f"{first_names(failed)}; run them again"
        )
    metric = choice.metric or "success"
    return Results(
        "promptfoo", [_item(place, row, metric, choice) for place, row in rows], {TASK: metric}
    )


def _rows(path: Path) -> list[Row]:
    if path.suffix == ".json":
        found = read_json(path)
        rows = found.get("results", {}).get("results") if isinstance(found, dict) else None
        if not isinstance(rows, list) or not rows:
            raise UserError(f"{path}: has no results of promptfoo, a list `results.results`")
    else:
        rows = [row for _, row in read_rows(path)]
    return [(f"{path}: test {row.get('testIdx')}", row) for row in rows]


def _of_one_model(path: Path, rows: list[Row], choice: Choice) -> list[Row]:
    """The rows of the one provider and prompt that the choice leaves."""
    models: dict[tuple[str, str], list[Row]] = {}
    for place, row in rows:
        provider = row["provider"].get("label") or row["provider"]["id"]
        models.setdefault((provider, row["prompt"]["label"]), []).append((place, row))
    wanted = choice.provider
    kept = [
        model for model in models if not wanted or wanted in model or wanted == " / ".join(model)
    ]
    if len(kept) != 1:
        present = ", ".join(repr(" / ".join(model)) for model in models)
        raise UserError(
            f"{path}: {len(kept)} pairs of provider and prompt fit {wanted!r}; --before-provider "
            f"and --after-provider choose one: {present:.500}"
        )
    return models[kept[0]]


def _item(place: str, row: Mapping[str, Any], metric: str, choice: Choice) -> ItemScore:
    values = row if metric in ("success", "score") else row.get("namedScores") or {}
    if metric not in values:
        allowed = ", ".join(["success", "score", *(row.get("namedScores") or {})])
        raise UserError(f"{place}: has no score {metric!r}; --metric: one of {allowed}")
    test = row.get("testCase") or {}
    fields = {**(row.get("vars") or {}), **(test.get("metadata") or {})}
    content = content_hash(row.get("vars"), test.get("assert"))
    category, cluster = TASK, ""
    if choice.category:
        category = text_field(fields, choice.category, place, "--category")
    if choice.cluster:
        cluster = text_field(fields, choice.cluster, place, "--cluster")
    return ItemScore(
        place=place,
        task=TASK,
        id=f"{test['description']} ({content[:8]})" if test.get("description") else content[:12],
        content=content,
        category=category,
        score=checked_score(values[metric], place, metric),
        cluster=cluster,
        repeat=str(row.get("testIdx")),
        prompt=content_hash(row["prompt"].get("raw")),
    )
