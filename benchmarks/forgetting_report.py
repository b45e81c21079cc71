"""The report of benchmarks/forgetting.py: runs compared with the base, in figures and a picture."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from lmadapt.report.charts import axis
from lmadapt.verdict.ratio_interval import clustered_ratio
from lmadapt.verdict.statistics import noninferiority_p, paired_change

SIGNIFICANCE = 0.05
Run = dict[str, Any]  # what a run keeps: setting, seed, params, seconds, metrics, right, nats
Rows = Sequence[dict[str, Any]]

STYLE = (
    "text{font:13px sans-serif;fill:#333}"
    ".grid{stroke:#ddd}"
    ".interval{stroke:#2a6f97;stroke-width:1.5;opacity:.45;fill:none}"
    ".margin{stroke:#b23a48;stroke-dasharray:6 4}"
    "circle{fill:#2a6f97}"
)


def compare_runs(
    runs: Mapping[str, Sequence[Run]], *, before: Run, items: Rows, documents: Rows, margin: float
) -> list[dict[str, Any]]:
    """A row for each setting; its runs are compared with the base and with the setting `none`."""
    rows: list[dict[str, Any]] = []
    for setting, own in runs.items():
        general = change(items, [before], own)
        beside_none = change(items, runs["none"], own)
        gain = domain_gain(documents, before, own)
        unmitigated = rows[0]["domain_gain"]["value"] if rows else gain["value"]
        gain["by_seed"] = [domain_gain(documents, before, [run])["value"] for run in own]
        rows.append(
            {
                "setting": setting,
                "domain_gain": gain,
                "general_change": {
                    **fields(general, "n", "clusters", "difference", "interval", "worse_p"),
                    "noninferiority_p": noninferiority_p(general, margin),
                    "by_seed": [change(items, [before], [run]).difference for run in own],
                },
                "general_against_none": fields(
                    beside_none, "difference", "interval", "better_p", "worse_p"
                ),
                "seconds": [run["seconds"] for run in own],
                "replay_fraction_met": [run["metrics"]["replay"]["fraction_met"] for run in own],
                "domain_gain_ratio": gain["value"] / unmitigated,
            }
        )
    return rows


def fields(thing: Any, *names: str) -> dict[str, Any]:
    """These attributes by name."""
    return {name: getattr(thing, name) for name in names}


def change(items: Rows, before: Sequence[Run], after: Sequence[Run]) -> Any:
    """How the mean scores of runs changed, by item: see `paired_change`."""
    clusters = np.array([item["cluster"] or item["id"] for item in items])
    return paired_change(
        mean_right(items, before), mean_right(items, after), clusters, SIGNIFICANCE
    )


def mean_right(items: Rows, runs: Sequence[Run]) -> Any:
    """For each item the share of runs that got it right."""
    return np.mean([[run["right"][item["id"]] for item in items] for run in runs], 0)


def domain_gain(documents: Rows, before: Run, after: Sequence[Run]) -> dict[str, Any]:
    """Bits per byte of the held-out documents, before less after."""
    names = [document["id"] for document in documents]
    size = np.array([len(document["text"].encode()) for document in documents], float)
    trained = np.mean([[run["nats"][name] for name in names] for run in after], 0)
    bits = (np.array([before["nats"][name] for name in names]) - trained) / np.log(2)
    ratio = clustered_ratio(bits, size, np.array(names))
    interval = ratio.interval(SIGNIFICANCE)
    return {"value": ratio.value, "interval": interval, "documents": len(names)}


def headlines(rows: Rows) -> dict[str, float]:
    """Each setting's gain and change, with their intervals; the best gain without forgetting."""
    measurements = {}
    for row in rows:
        for key, value in (("domain_gain", "value"), ("general_change", "difference")):
            name = f"{row['setting']}_{key}"
            measurements[name] = row[key][value]
            measurements[f"{name}_low"], measurements[f"{name}_high"] = row[key]["interval"]
    noninferior = [
        row["domain_gain_ratio"]
        for row in rows[1:]
        if row["general_change"]["noninferiority_p"] <= SIGNIFICANCE
    ]
    if noninferior:
        measurements["best_noninferior_domain_gain_ratio"] = max(noninferior)
    return measurements


def print_table(rows: Rows) -> None:
    """Print the rows of the table in docs/forgetting.md."""
    for row in rows:
        found, lost = row["domain_gain"], row["general_change"]
        low, high = found["interval"]
        worst, best = (100 * end for end in lost["interval"])
        gained = f"{found['value']:.3f} [{low:.3f}, {high:.3f}]"
        share = f"{100 * row['domain_gain_ratio']:.0f} %"
        moved = f"{100 * lost['difference']:+.1f} [{worst:+.1f}, {best:+.1f}]"
        p = f"{lost['noninferiority_p']:.2g}"
        print(f"| {row['setting']} | {gained} | {share} | {moved} | {p} |")


def frontier(rows: Rows, *, margin: float) -> str:
    """An SVG: general change in points (across), domain gain in bits per byte (up), the margin."""
    changed = chain.from_iterable(row["general_change"]["interval"] for row in rows)
    gained = chain.from_iterable(row["domain_gain"]["interval"] for row in rows)
    across = axis([0.0, -100 * margin, *(100 * end for end in changed)])
    up = axis([0.0, *gained])

    def x(points: float) -> float:
        return round(70 + 6.2 * across.percent(points), 1)

    def y(bits: float) -> float:
        return round(380 - 3.6 * up.percent(bits), 1)

    parts = [text(x(tick), 398, f"{tick:g}") for tick in across.ticks]
    parts += [text(62, y(tick) + 4, f"{tick:g}", "end") for tick in up.ticks]
    parts += [f'<path class="grid" d="M{x(tick)} 20V380"/>' for tick in across.ticks]
    parts += [f'<path class="grid" d="M70 {y(tick)}H690"/>' for tick in up.ticks]
    parts.append(f'<path class="margin" d="M{x(-100 * margin)} 20V380"/>')
    for row in rows:
        left, right = (x(100 * end) for end in row["general_change"]["interval"])
        bottom, top = (y(end) for end in row["domain_gain"]["interval"])
        at, height = x(100 * row["general_change"]["difference"]), y(row["domain_gain"]["value"])
        parts.append(f'<path class="interval" d="M{left} {height}H{right}M{at} {bottom}V{top}"/>')
        parts.append(f'<circle cx="{at}" cy="{height}" r="5"/>')
        parts.append(text(at + 8, height - 8, row["setting"].replace("_", " "), "start"))
    parts.append(text(380, 425, "change of general accuracy, points (dashed: the margin)"))
    label = text(0, 0, "domain gain, bits per byte")
    parts.append(f'<g transform="translate(18 200) rotate(-90)">{label}</g>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 440" role="img" '
        'aria-label="Domain gain against change of general accuracy, by mitigation">'
        f'<style>{STYLE}</style><rect width="720" height="440" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def text(left: float, top: float, words: str, anchor: str = "middle") -> str:
    """A text element of SVG."""
    return f'<text x="{left}" y="{top}" text-anchor="{anchor}">{words}</text>'
