"""reports/forgetting.html: the verdict and what it rests on, in one file that needs nothing else."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import accumulate
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from lmadapt.core.files import atomic_file
from lmadapt.report.charts import Point, curve_chart, forest_chart, frontier_chart, waterfall_chart

MAX_ITEMS = 20_000  # in the page, those lost or gained first; all stand in predictions.parquet
MAX_ITEM_BYTES = 9_000_000  # of all items together: the page stays under 10 MB and opens at once
MAX_TEXT_CHARACTERS = (
    2_000,
    600,
    200,
)  # of a prompt, a choice or an answer: the first with which all items fit
MAX_CHECKS = 200  # in the checklist of behaviours, those lost first; the others are among the items
GROUPS = ("domain", "general")
STATUS = ("lost", "gained", "kept", "wrong in both")  # in the order of report.js

Row = Mapping[str, Any]


def write_report(
    target: Path,
    figures: Row,
    items: Sequence[Row],
    *,
    significance: float,
    precision: str,
    models: Sequence[str] = ("base", "pretrained", "adapted"),
    funnel: Mapping[str, Sequence[Row]] | None = None,
    curves: Mapping[str, Mapping[str, list[Point]]] | None = None,
    validation: Row | None = None,
    data_docs: str | None = None,
    lineage: Mapping[str, str] | None = None,
    memory: Sequence[Row] = (),
) -> None:
    """Render `figures`, which docs/evaluate.schema.json describes; sections without figures are left out.

    An item has the columns of records.ITEM, `before` and `after`, each with `response` (text) and `score` (0 to 1),
    and `notes`, a list of short texts (where it was lost, what brought it back). `models` stand in the order of
    training; the first is compared with the last. `funnel` is of charts.read_funnel, `curves` by title of
    charts.read_loss_curves, `validation` metrics/validate.json, `data_docs` an address relative to the page, `lineage`
    what to show of the model's origin by name, `memory` stage.recorded_memory.

    Equal input gives an equal file; everything that comes from data is escaped, and the page's own policy forbids
    any script and style but ours and any request.
    """
    environment = Environment(
        loader=PackageLoader("lmadapt.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        thousands="{:,}".format, percent=percent, points=points, bits=_bits, p_value=_p_value
    )
    environment.filters["gigabytes"] = lambda size: f"{size / 1e9:.2f}"
    style, script = (
        files("lmadapt.report").joinpath(f"report.{kind}").read_text("utf-8")
        for kind in ("css", "js")
    )
    change = figures["changes"][f"{models[-1]}_vs_{models[0]}"]
    asked = [item for item in items if item["group"] in (*GROUPS, "behaviour")]
    asked.sort(key=lambda item: (_status(item), item["group"], item["category"], item["id"]))
    data, shown = _item_data(asked, [models[0], models[-1]])
    page = environment.get_template("report.html.j2").render(
        figures=figures,
        change=change,
        models=models,
        groups=GROUPS,
        confidence=f"{100 * (1 - 2 * significance):g} %",
        significance=significance,
        precision=precision,
        forest=forest_chart(list(_forest_rows(change, significance))),
        waterfalls=_waterfalls(figures["attribution"]),
        frontier=figures["dial"]
        and frontier_chart(figures["dial"]["rows"], change["general"]["margin"]),
        items=data,
        shown=shown,
        total=len(asked),
        counts=[sum(_status(item) == number for item in asked) for number in range(len(STATUS))],
        status=STATUS,
        checks=_checklist(asked),
        max_checks=MAX_CHECKS,
        funnel={role: steps for role, steps in (funnel or {}).items() if steps},
        curves={
            title: curve_chart(dict(named)) for title, named in (curves or {}).items() if named
        },
        validation=validation,
        data_docs=data_docs,
        lineage=lineage or {},
        memory=memory,
        style=Markup(style),
        script=Markup(script),
        style_hash=_content_hash(style),
        script_hash=_content_hash(script),
    )
    with atomic_file(target) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _forest_rows(change: Row, significance: float) -> Iterator[dict[str, Any]]:
    """The whole first, then categories, those that lost most first."""
    for group in GROUPS:
        yield _forest_row(change[group], group, "as a whole", significance)
    for group in reversed(GROUPS):
        named = sorted(
            change["categories"][group].items(), key=lambda pair: float(pair[1]["difference"])
        )
        for name, entry in named:
            yield _forest_row(entry, name, f"{group}, by category", significance)


def _forest_row(entry: Row, label: str, heading: str, significance: float) -> dict[str, Any]:
    better = entry["noninferiority_p"] if "margin" in entry else entry["better_p"]
    worse = entry.get("worse_p_adjusted", entry["worse_p"])
    kind = "good" if better <= significance else "bad" if worse <= significance else "open"
    return {**entry, "label": label, "heading": heading, "kind": kind}


def _waterfalls(attribution: Row | None) -> dict[str, Any]:
    steps = attribution["steps"] if attribution else []
    return {
        group: waterfall_chart([(step["step"], step[group]) for step in steps])
        for group in GROUPS
        if steps
    }


def _status(item: Row) -> int:
    """Index into STATUS."""
    before, after = item["before"]["score"], item["after"]["score"]
    if before == after:
        return 2 if after > 0 else 3
    return 0 if after < before else 1


def _checklist(items: Sequence[Row]) -> list[dict[str, Any]]:
    severities = ["critical", "major", "minor"]
    checks = [
        {**item, "status": STATUS[_status(item)]} for item in items if item["group"] == "behaviour"
    ]
    return sorted(
        checks,
        key=lambda check: (STATUS.index(check["status"]), severities.index(check["severity"])),
    )


def _item_data(items: Sequence[Row], models: Sequence[str]) -> tuple[Markup, int]:
    """The items as JSON that is inert inside a script element, and how many found room."""
    rows: list[str] = []
    for limit in MAX_TEXT_CHARACTERS:
        texts = [_json(_compact(item, limit)) for item in items[:MAX_ITEMS]]
        sizes = accumulate(len(text.encode()) for text in texts)
        rows = [text for text, size in zip(texts, sizes, strict=True) if size <= MAX_ITEM_BYTES]
        if len(rows) == len(texts):
            break
    return Markup(f'{{"models":{_json(models)},"items":[{",".join(rows)}]}}'), len(rows)


def _compact(item: Row, limit: int) -> list[Any]:
    """An item as report.js reads it; an answer that is one of the choices stands as its index."""
    choices = [_cut(choice, limit) for choice in item["choices"]]
    sides = [item["before"], item["after"]]
    said = [_cut(side["response"], limit) for side in sides]
    found = [choices.index(text) if text in choices else text for text in said]
    place = [item["id"], f"{item['group']}: {item['category']}", _status(item)]
    question = [_cut(item["prompt"], limit), choices, item["answer"], item["check"]]
    return [
        *place,
        *question,
        *found,
        *(float(side["score"]) for side in sides),
        list(item["notes"]),
    ]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + " …"


def _json(value: Any) -> str:
    return str(
        htmlsafe_json_dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    )


def _content_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def percent(share: float) -> str:
    """A share of 1 in percent, to a tenth."""
    return f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference of shares in percentage points, signed, to a tenth."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _bits(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
