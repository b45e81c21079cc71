"""Whether a version may take over from the champion: the verdict's test, on the same items."""

from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.registry.scores import grouped_as, read_scores, same_items
from lmadapt.registry.versions import read_lineage
from lmadapt.verdict.decision import Comparison, Scored, compare, judge

Asked = Mapping[str, Scored]  # by number of a version: its scores on the items of another


def champion_test_refusal(
    client: MlflowClient, version: ModelVersion, champion: ModelVersion, asked: Asked
) -> str:
    """Why the scores of a version do not let it take over from the champion; "" when they do.

    The test is that of the verdict (lmadapt.verdict.decision.judge), on the same items and at the
    version's own margins. Scores in `asked` stand in for stored ones.
    """
    pair = _pair(client, version, champion, asked)
    if pair is None:
        return _other_items(version, champion, "the champion")
    settings = read_lineage(client, version).params["evaluate"]
    verdict = judge(_compare(*pair, settings), [], significance=settings["significance"])
    if verdict.outcome == "SHIP":
        return ""
    return f"against version {champion.version}, the champion: {verdict.reason}"


def _pair(
    client: MlflowClient, version: ModelVersion, earlier: ModelVersion, asked: Asked
) -> tuple[Scored, Scored] | None:
    """The scores of the earlier version and of this one on the same items; None without them."""
    before = asked.get(str(earlier.version)) or read_scores(client, earlier)
    after = asked.get(str(version.version)) or read_scores(client, version)
    if before is None or after is None or not same_items(before, after):
        return None
    return grouped_as(before, after), after


def _compare(before: Scored, after: Scored, settings: Mapping[str, Any]) -> Comparison:
    return compare(
        before,
        after,
        margin=settings["margin"],
        category_margin=settings["category_margin"],
        significance=settings["significance"],
        # Versions of earlier releases have none of these settings.
        margin_scale=settings.get("margin_scale", "accuracy"),
        min_domain_gain=settings.get("min_domain_gain", 0.0),
        not_measured=settings.get("not_measured", []),
        score=settings.get("score", "accuracy"),
    )


def _other_items(version: ModelVersion, earlier: ModelVersion, role: str) -> str:
    return (
        f"version {earlier.version}, {role}, answered other items; "
        f"`lmadapt promote {version.name}/{version.version}` asks it the items of this version"
    )
