"""Summarises an evaluation in GitHub-flavoured Markdown, for a pull request."""

import re
from collections.abc import Iterator, Mapping, Sequence

from lmadapt.report.formats import percent, points
from lmadapt.report.model_names import titles
from lmadapt.verdict.figures import (
    Change,
    Changes,
    DomainChange,
    EvaluationFigures,
    MarginTest,
)

SIGNS = {"SHIP": "✅", "HOLD": "⛔", "INCONCLUSIVE": "❔"}
MARKUP = re.compile(r"([\\`*_{}\[\]<>|~#@&$])")
CATEGORY_HEADER = ("category", "change", "interval", "margin", "lost", "gained", "graded score")


def summarise_in_markdown(figures: EvaluationFigures) -> str:
    """Verdict, reservations, remedy and main figures; the reference against the adapted model.

    Text that comes from data (reasons name categories) is escaped, so that it neither breaks a
    table nor notifies anyone.
    """
    verdict, change = figures.verdict, figures.changes["adapted_vs_reference"]
    judged, names = figures.judged, titles(figures)
    lines = [f"### {SIGNS[verdict.outcome]} {verdict.title}", "", escape(verdict.reason), ""]
    lists = {"Reservations": verdict.reservations, "What to do next": verdict.remedy}
    for heading, sentences in lists.items():
        if sentences:
            lines += [f"**{heading}**", "", *(f"- {escape(line)}" for line in sentences), ""]
    compared = f"{judged.artifact_title}, against {judged.reference_title}"
    lines += [f"Compared, each as it runs: the adapted model as {escape(compared)}.", ""]
    header = ["", *map(escape, names.values()), "adapted against reference"]
    lines += _table(header, _main_rows(figures, change, list(names)))
    lines += ["", "<details><summary>By category, in points</summary>", ""]
    lines += _table(CATEGORY_HEADER, _category_rows(change))
    return "\n".join([*lines, "", "</details>", ""])


def escape(text: str) -> str:
    """The text on one line, with its markup escaped.

    A zero-width space in `@name` and `#1` keeps GitHub from notifying and linking.
    """
    escaped = MARKUP.sub(r"\\\1", " ".join(text.split()))
    return re.sub(r"([@#])(?=\w)", "\\1\u200b", escaped)


def _main_rows(
    figures: EvaluationFigures, change: Changes, models: Sequence[str]
) -> Iterator[list[str]]:
    named = [figures.models[name] for name in models]
    accuracies = {
        "domain": ([model.domain.accuracy for model in named], change.domain),
        "general": ([model.general.accuracy for model in named], change.general),
    }
    for group, (shares, moved) in accuracies.items():
        cells = [f"{percent(share)} %" for share in shares]
        low, high = map(points, moved.interval)
        difference = f"**{points(moved.difference)}** points [{low}, {high}]"
        yield [f"{group} accuracy, n = {moved.n:,}", *cells, difference]
    texts = {
        "domain": ([model.bits_per_byte.domain for model in named], change.bits_per_byte.domain),
        "general": ([model.bits_per_byte.general for model in named], change.bits_per_byte.general),
    }
    for group, (measured, text_change) in texts.items():
        if text_change.difference is not None:
            cells = [f"{text.value:.3f}" for text in measured]
            yield [f"{group} text, bits per byte", *cells, f"{text_change.difference:+.3f}"]
    well = figures.confident_losses
    if well:
        low, high = map(percent, well.interval)
        share = f"{well.lost:,} lost, {percent(well.share)} % [{low}, {high}]"
        yield [f"general items known well, n = {well.known:,}", *[""] * len(named), share]
    passed = [model.behaviour for model in named]
    if passed[-1].n:
        cells = [f"{behaviour.passed} of {behaviour.n}" for behaviour in passed]
        lost, gained = len(figures.behaviour.lost), len(figures.behaviour.gained)
        yield ["behaviour checks passed", *cells, f"{lost} lost, {gained} gained"]
    for name, rate in figures.behaviour_rates.items():
        cells = ["" for _ in named]
        cells[0], cells[-1] = f"{percent(rate.before)} %", f"{percent(rate.after)} %"
        interval = ""
        if rate.interval:
            low, high = map(points, rate.interval)
            interval = f" [{low}, {high}]"
        difference = f"{points(rate.difference)} points{interval}"
        yield [f"passed: {escape(name)}, n = {rate.n}", *cells, difference]
    yield from _beside_rows(figures, models)


def _beside_rows(figures: EvaluationFigures, models: Sequence[str]) -> Iterator[list[str]]:
    """What is judged beside scores and critical behaviours; it compares the first and last."""
    blank = [""] * len(models)
    tests = {
        "major behaviours": figures.behaviour_tests.major,
        "usable free answers": figures.behaviour_tests.free_answers,
    }
    for name, test in tests.items():
        if test:
            moved = f"{len(test.lost)} lost, {len(test.gained)} gained"
            yield [f"{name}, n = {test.n:,}", *blank, moved]
    if bits := figures.alarms.bits_per_byte:
        low, high = map(percent, bits.interval)
        moved = f"{percent(bits.value)} % [{low}, {high}], margin {percent(bits.margin)} %"
        yield ["rise of general bits per byte", *blank, moved]
    if kl := figures.alarms.kl:
        ends = "{:.2f}, {:.2f}".format(*kl.interval)
        moved = f"{kl.value:.2f} [{ends}], margin {kl.margin:g}"
        yield ["divergence, bits per token", *blank, moved]


def _category_rows(change: Changes) -> Iterator[list[str]]:
    """General categories, then those of the domain, each with the largest loss first."""
    groups: dict[str, Mapping[str, Change]] = {
        "general": change.categories.general,
        "domain": change.categories.domain,
    }
    for group, categories in groups.items():
        for name, entry in sorted(categories.items(), key=lambda named: named[1].difference):
            low, high = map(points, entry.interval)
            yield [
                f"{group}: {escape(name)}",
                points(entry.difference),
                f"{low} to {high}",
                f"{100 * entry.margin:g}" if isinstance(entry, MarginTest) else "",
                str(entry.lost),
                str(entry.gained),
                _graded(entry),
            ]


def _graded(change: Change) -> str:
    """The change of the graded score, its interval and margin; empty where it does not decide."""
    graded = change.graded if isinstance(change, DomainChange) else None
    if graded is None:
        return ""
    low, high = map(points, graded.interval)
    margin = f", margin {percent(graded.margin)}" if graded.margin else ""
    return f"{points(graded.difference)} ({low} to {high}{margin})"


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
