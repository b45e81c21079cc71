"""Whether a version may take over from the champion: the verdict's test, on the same items.

Two tests are made, both under the stricter of two versions' margins. Against the champion the
domain must be better and general ability non-inferior. Against the anchor general ability must be
non-inferior, so that accepted losses of many releases do not add up.
"""

from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lmadapt.provenance.document import Lineage
from lmadapt.registry.margins import Margins, looser, margins_in, stricter
from lmadapt.registry.scores import grouped_as, read_scores, same_items
from lmadapt.registry.versions import read_lineage
from lmadapt.verdict.decision import Comparison, MarginTest, Scored, compare, judge

Asked = Mapping[str, Scored]  # by number of a version: its scores on the items of another


def champion_test_refusal(
    client: MlflowClient, version: ModelVersion, champion: ModelVersion, asked: Asked
) -> str:
    """Why the version may not take over from the champion; "" when it may.

    The test is that of the verdict (lmadapt.verdict.decision.judge). Looser margins than the
    champion's are a refusal of their own. Scores in `asked` stand in for stored ones.
    """
    own, before = read_lineage(client, version), read_lineage(client, champion)
    if wider := looser(_margins(own), _margins(before)):
        return (
            f"it was judged under looser margins than version {champion.version}, the champion: "
            f"{', '.join(wider)}"
        )
    pair = _pair(client, version, champion, asked)
    if pair is None:
        return _other_items(version, champion, "the champion")
    compared, level = compare_versions(*pair, own, before)
    verdict = judge(compared, [], significance=level)
    if verdict.outcome == "SHIP":
        return ""
    return f"against version {champion.version}, the champion: {verdict.reason}"


def anchor_refusal(
    client: MlflowClient, version: ModelVersion, anchor: ModelVersion, asked: Asked
) -> str:
    """Why drift from the anchor forbids that the version becomes champion; "" when it does not.

    General ability must be non-inferior to the anchor's, as a whole and in every category: an
    intersection-union test (Berger 1982), so each part has the full level.
    """
    pair = _pair(client, version, anchor, asked)
    if pair is None:
        return _other_items(version, anchor, "the anchor")
    compared, level = compare_versions(
        *pair, read_lineage(client, version), read_lineage(client, anchor)
    )
    tests = {"general ability": compared.general, **compared.categories}
    drifted = [_drift(name, test) for name, test in tests.items() if not test.acceptable(level)]
    if not drifted:
        return ""
    return (
        f"against version {anchor.version}, the anchor, losses over releases add up: "
        f"{'; '.join(drifted)}"
    )


def compare_versions(
    before: Scored, after: Scored, own: Lineage, earlier: Lineage
) -> tuple[Comparison, float]:
    """Compare a version with an earlier one under the stricter of both margins; and the level.

    The level is divided as that of the version's own verdict was: among the candidates of a sweep,
    and for planned looks.
    """
    margins = stricter(_margins(own), _margins(earlier))
    needed = ("margin", "category_margin", "significance")  # none of them can be switched off
    whole, category, level = (float(margins[key] or 0) for key in needed)
    if own.exam:
        level *= own.exam.level / own.params["evaluate"]["significance"]
    settings = own.params["evaluate"]  # those of earlier releases lack some of these keys
    compared = compare(
        before,
        after,
        margin=whole,
        category_margin=category,
        margin_scale=settings.get("margin_scale", "accuracy"),
        min_domain_gain=settings.get("min_domain_gain", 0.0),
        not_measured=settings.get("not_measured", []),
        score=settings.get("score", "accuracy"),
        significance=level,
        at_any_look=own.exam is not None and own.exam.looks == "any",
    )
    return compared, level


def _margins(lineage: Lineage) -> Margins:
    return margins_in(lineage.params["evaluate"])


def _pair(
    client: MlflowClient, version: ModelVersion, earlier: ModelVersion, asked: Asked
) -> tuple[Scored, Scored] | None:
    """The scores of the earlier version and of this one on the same items; None without them."""
    before = asked.get(str(earlier.version)) or read_scores(client, earlier)
    after = asked.get(str(version.version)) or read_scores(client, version)
    if before is None or after is None or not same_items(before, after):
        return None
    return grouped_as(before, after), after


def _drift(name: str, test: MarginTest) -> str:
    low, high = (100 * bound for bound in test.change.interval)
    return (
        f"{name} {100 * test.change.difference:+.1f} points [{low:+.1f}, {high:+.1f}], not shown "
        f"to be within the margin of {100 * test.margin:.1f}"
    )


def _other_items(version: ModelVersion, earlier: ModelVersion, role: str) -> str:
    return (
        f"version {earlier.version}, {role}, answered other items; "
        f"`lmadapt promote {version.name}/{version.version}` asks it the items of this version"
    )
