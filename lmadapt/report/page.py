"""Writes reports/forgetting.html: the verdict and its evidence, in one file that needs no other."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lmadapt.core.files import atomic_file
from lmadapt.report.charts import (
    ForestMark,
    Point,
    curve_chart,
    forest_chart,
    frontier_chart,
    waterfall_chart,
)
from lmadapt.report.formats import bits, gigabytes, p_value, percent, points
from lmadapt.report.item_list import STATUS, list_checks, list_items
from lmadapt.report.model_names import shown_models, titles
from lmadapt.verdict.figures import (
    Attribution,
    Change,
    Changes,
    DomainChange,
    DomainTest,
    EvaluationFigures,
    MarginTest,
)

MAX_CHECKS = 200  # in the checklist of behaviours; the others are among the items
GROUPS = ("domain", "general")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ForestRow:
    """A change with its place in the chart."""

    label: str
    heading: str
    change: Change
    shown: Change  # what the chart draws: in the score that decides
    kind: str  # good, bad or open
    mark: ForestMark


def write_report(
    target: Path,
    figures: EvaluationFigures,
    items: Sequence[Row],
    *,
    significance: float,
    funnel: Mapping[str, Sequence[Row]] | None = None,
    curves: Mapping[str, Mapping[str, list[Point]]] | None = None,
    validation: Row | None = None,
    data_docs: str | None = None,
    lineage: Mapping[str, str] | None = None,
    memory: Sequence[Row] = (),
) -> None:
    """Render the report to `target`; sections without figures are left out.

    items: the columns of core.tables.ITEM, `before` and `after`, each with `response` (text) and
    `score` (0 to 1), and `notes`, short texts. The reference is compared with the adapted
    model. funnel and curves: as plot_files reads them, curves by title.
    validation: metrics/validate.json. data_docs: an address relative to the page. lineage: what to
    show of the model's origin, by name. memory: core.stage_runner.recorded_memory.

    Equal input gives an equal file. Everything that comes from data is escaped; the page's own
    policy forbids every request, and every script and style but ours.
    """
    change = figures.changes["adapted_vs_reference"]
    models = shown_models(figures)
    style, script = _asset("report.css"), _asset("report.js")
    context = {
        "figures": figures,
        "change": change,
        "models": models,
        "titles": titles(figures),
        "groups": GROUPS,
        "confidence": f"{100 * (1 - 2 * significance):g} %",
        "significance": significance,
        "status": STATUS,
        "item_list": list_items(items, ["reference", "adapted"]),
        "checks": list_checks(items),
        "max_checks": MAX_CHECKS,
        "funnel": {role: steps for role, steps in (funnel or {}).items() if steps},
        "validation": validation,
        "data_docs": data_docs,
        "lineage": lineage or {},
        "memory": memory,
        "style": Markup(style),
        "script": Markup(script),
        "style_hash": _content_hash(style),
        "script_hash": _content_hash(script),
    }
    page = _template().render(context | _charts(figures, change, curves or {}, significance))
    with atomic_file(target) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("lmadapt.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        thousands="{:,}".format,
        percent=percent,
        points=points,
        bits=bits,
        p_value=p_value,
        gigabytes=gigabytes,
    )
    return environment.get_template("report.html.j2")


def _charts(
    figures: EvaluationFigures,
    change: Changes,
    curves: Mapping[str, Mapping[str, list[Point]]],
    significance: float,
) -> dict[str, Any]:
    labelled = list(_labelled_changes(change))
    shown = [_deciding(entry) for _, _, entry in labelled]
    forest = forest_chart(shown)
    forest_rows = [
        ForestRow(label, heading, entry, drawn, _kind(entry, significance), mark)
        for (label, heading, entry), drawn, mark in zip(labelled, shown, forest.marks, strict=True)
    ]
    dial = figures.dial
    return {
        "forest": forest,
        "forest_rows": forest_rows,
        "waterfalls": _waterfalls(figures.attribution),
        "frontier": dial and frontier_chart(dial.rows, change.general.margin),
        "curves": {title: curve_chart(named) for title, named in curves.items() if named},
    }


def _labelled_changes(change: Changes) -> Iterator[tuple[str, str, Change]]:
    """Label, heading and change: the groups first, then categories, largest loss first."""
    yield "domain", "as a whole", change.domain
    yield "general", "as a whole", change.general
    categories: dict[str, Mapping[str, Change]] = {
        "general": change.categories.general,
        "domain": change.categories.domain,
    }
    for group, entries in categories.items():
        for name, entry in sorted(entries.items(), key=lambda named: named[1].difference):
            yield name, f"{group}, by category", entry


def _deciding(change: Change) -> Change:
    """The change with difference, interval and margin of the graded score, where it decides."""
    graded = change.graded if isinstance(change, DomainChange) else None
    if graded is None:
        return change
    drawn: dict[str, Any] = {"difference": graded.difference, "interval": graded.interval}
    if isinstance(change, MarginTest) and graded.margin:
        drawn["margin"] = graded.margin
    return change.model_copy(update=drawn)


def _kind(change: Change, significance: float) -> str:
    """What the tests say: good (better, or loss acceptable), bad (worse) or open (neither)."""
    worse = change.worse_p
    if isinstance(change, DomainChange):
        worse = change.worse_p_adjusted
        worse = min(worse, change.graded.worse_p_adjusted) if change.graded else worse
    if _is_good(change, significance):
        return "good"
    return "bad" if worse <= significance else "open"


def _is_good(change: Change, significance: float) -> bool:
    if isinstance(change, MarginTest):
        p = change.graded.noninferiority_p if change.graded else change.noninferiority_p
        return change.measurable and p is not None and p <= significance
    better_p = change.gain_p if isinstance(change, DomainTest) else change.better_p
    return better_p <= significance


def _waterfalls(attribution: Attribution | None) -> dict[str, Any]:
    if attribution is None:
        return {}
    return {
        "domain": waterfall_chart([(step.step, step.domain) for step in attribution.steps]),
        "general": waterfall_chart([(step.step, step.general) for step in attribution.steps]),
    }


def _asset(name: str) -> str:
    return files("lmadapt.report").joinpath(name).read_text("utf-8")


def _content_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
