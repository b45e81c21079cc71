"""The verdict as a few lines of GitHub-flavoured Markdown, for a pull request."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmadapt.report.page import GROUPS, percent, points

SIGNS = {"SHIP": "✅", "HOLD": "⛔", "INCONCLUSIVE": "❔"}
MARKUP = re.compile(r"([\\`*_{}\[\]<>|~#@&$])")

Row = Mapping[str, Any]


def summarise_in_markdown(
    figures: Row, *, models: Sequence[str] = ("base", "pretrained", "adapted")
) -> str:
    """Verdict, reason, remedy and main figures of metrics/evaluate.json; the first model is compared with the last.

    Markup in what comes from data (reasons name categories) is escaped, so that it neither breaks the table nor
    notifies anyone.
    """
    verdict, change = figures["verdict"], figures["changes"][f"{models[-1]}_vs_{models[0]}"]
    lines = [
        f"### {SIGNS[verdict['outcome']]} {verdict['outcome']}",
        "",
        escape(verdict["reason"]),
        "",
    ]
    if verdict["remedy"]:
        lines += [
            "**What to do next**",
            "",
            *(f"- {escape(line)}" for line in verdict["remedy"]),
            "",
        ]
    header = [*map(escape, models), f"{escape(models[-1])} against {escape(models[0])}"]
    lines += _table(["", *header], _main_rows(figures, change, models))
    lines += ["", "<details><summary>By category, in points</summary>", ""]
    lines += _table(
        ["category", "change", "interval", "margin", "lost", "gained"], _category_rows(change)
    )
    return "\n".join([*lines, "", "</details>", ""])


def escape(text: str) -> str:
    """The text on one line, with a backslash before markup and a space of no width in `@name` and `#1`."""
    return re.sub(r"([@#])(?=\w)", "\\1\u200b", MARKUP.sub(r"\\\1", " ".join(text.split())))


def _main_rows(figures: Row, change: Row, models: Sequence[str]) -> Iterator[list[str]]:
    for group in GROUPS:
        entries = [figures["models"][model][group] for model in models]
        cells = [f"{percent(entry['accuracy'])} %" for entry in entries]
        low, high = map(points, change[group]["interval"])
        difference = f"**{points(change[group]['difference'])}** points [{low}, {high}]"
        yield [f"{group} accuracy, n = {change[group]['n']:,}", *cells, difference]
    for group in GROUPS:
        if change["bits_per_byte"][group]["difference"] is not None:
            cells = [
                f"{figures['models'][model]['bits_per_byte'][group]['value']:.3f}"
                for model in models
            ]
            yield [
                f"{group} text, bits per byte",
                *cells,
                f"{change['bits_per_byte'][group]['difference']:+.3f}",
            ]
    passed = [figures["models"][model]["behaviour"] for model in models]
    if passed[-1]["n"]:
        moved = f"{len(figures['behaviour']['lost'])} lost, {len(figures['behaviour']['gained'])} gained"
        yield [
            "behaviour checks passed",
            *(f"{one['passed']} of {one['n']}" for one in passed),
            moved,
        ]


def _category_rows(change: Row) -> Iterator[list[str]]:
    """General categories, then those of the domain; those that lost most first."""
    for group in reversed(GROUPS):
        for name, entry in sorted(
            change["categories"][group].items(), key=lambda pair: float(pair[1]["difference"])
        ):
            low, high = map(points, entry["interval"])
            margin = f"{100 * entry['margin']:g}" if "margin" in entry else ""
            counts = (str(entry["lost"]), str(entry["gained"]))
            yield [
                f"{group}: {escape(name)}",
                points(entry["difference"]),
                f"{low} to {high}",
                margin,
                *counts,
            ]


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
