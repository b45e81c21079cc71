"""reports/forgetting.html: the verdict and what it rests on, in one file that needs nothing else."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lmadapt.charts import curve_chart, interval_chart, read_funnel, read_loss_curves
from lmadapt.evaluation import Answers, Exam
from lmadapt.files import atomic_file
from lmadapt.summary import MODELS

GROUPS = ("domain", "general")

MAX_FLIPPED_ROWS = 300  # in the table of items; all of them stand in predictions.parquet

SCRIPT = """
const search = document.getElementById("search");
search.addEventListener("input", () => {
  const wanted = search.value.toLowerCase();
  for (const row of document.querySelectorAll("#flipped .item"))
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
"""


def write_report(
    target: Path,
    figures: Mapping[str, Any],
    exam: Exam,
    answers: Mapping[str, Answers],
    *,
    funnel: Path,
    curves: Mapping[str, Path],
    significance: float,
    precision: str,
) -> None:
    """Render the report of `lmadapt.summary.summarise`'s figures; `curves` are folders with loss.tsv by title.

    Equal input gives an equal file; everything that comes from data is escaped, and the page's own policy forbids
    any script but ours and any request.
    """
    flipped = _flipped(exam, answers["base"], answers["adapted"])
    losses = {title: read_loss_curves(folder) for title, folder in curves.items()}
    environment = Environment(
        loader=PackageLoader("lmadapt", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, points=_points, p_value=_p_value)
    page = environment.get_template("report.html.j2").render(
        figures=figures,
        last=figures["changes"]["adapted_vs_base"],
        models=MODELS,
        groups=GROUPS,
        confidence=f"{100 * (1 - 2 * significance):g} %",
        significance=significance,
        precision=precision,
        flipped=flipped[:MAX_FLIPPED_ROWS],
        flipped_total=len(flipped),
        behaviour=_behaviour(exam, answers),
        differences=_difference_chart(figures, significance),
        accuracies=_accuracy_charts(figures),
        bits=_bits_charts(figures),
        funnel=read_funnel(funnel),
        curves={title: curve_chart(named) for title, named in losses.items() if named},
        script=SCRIPT,
        script_hash=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
    )
    with atomic_file(target) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _difference_chart(figures: Mapping[str, Any], significance: float) -> dict[str, Any]:
    change = figures["changes"]["adapted_vs_base"]
    named = {"domain": change["domain"], "general": change["general"], **change["categories"]["general"]}
    rows = []
    for name, entry in named.items():
        good = entry["noninferiority_p"] if "margin" in entry else entry["better_p"]
        bad = entry["worse_p_adjusted"]
        kind = "good" if good <= significance else "bad" if bad <= significance else "open"
        margin = {"margin": entry["margin"]} if "margin" in entry else {}
        rows.append((name, [{"kind": kind, "value": entry["difference"], "interval": entry["interval"]} | margin]))
    return interval_chart(rows, include=(0.0,), scale=100)


def _accuracy_charts(figures: Mapping[str, Any]) -> dict[str, Any]:
    def marks(group: str, category: str) -> list[dict[str, Any]]:
        entries = [(model, figures["models"][model]["categories"][group][category]) for model in MODELS]
        return [{"kind": model, "value": e["accuracy"], "interval": e["interval"]} for model, e in entries]

    names = {group: list(figures["models"]["base"]["categories"][group]) for group in GROUPS}
    return {group: interval_chart([(name, marks(group, name)) for name in names[group]], scale=100) for group in GROUPS}


def _bits_charts(figures: Mapping[str, Any]) -> dict[str, Any]:
    def marks(group: str) -> list[dict[str, Any]]:
        entries = [(model, figures["models"][model]["bits_per_byte"][group]) for model in MODELS]
        return [{"kind": model, "value": e["value"], "interval": e["interval"]} for model, e in entries]

    return interval_chart([(group, marks(group)) for group in GROUPS])


def _flipped(exam: Exam, before: Answers, after: Answers) -> list[dict[str, Any]]:
    """Items that one model got right and the other wrong, those lost first."""
    rows = [
        {
            "item": item,
            "direction": "lost" if before.scores[index] else "gained",
            "before": item["choices"].index(before.responses[index]),
            "after": item["choices"].index(after.responses[index]),
        }
        for index, item in enumerate(exam.items)
        if item["choices"] and before.scores[index] != after.scores[index]
    ]
    return sorted(rows, key=lambda row: row["direction"] != "lost")


def _behaviour(exam: Exam, answers: Mapping[str, Answers]) -> list[dict[str, Any]]:
    return [
        {
            "check": check,
            "answers": [
                (model, answers[model].responses[index], answers[model].scores[index] == 1) for model in MODELS
            ],
        }
        for index, check in enumerate(exam.items)
        if check["group"] == "behaviour"
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
