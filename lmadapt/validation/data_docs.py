"""Runs suites with Great Expectations; its Data Docs are plain files that a second run repeats.

The pages show values from data: these are escaped, and a content policy lets no script run.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.run_identifier import RunIdentifier

from lmadapt.validation.expectations import Suites
from lmadapt.validation.measured_tables import PLACE

EXAMPLES = 3  # failing rows that a message lists
VALUE_CHARACTERS = 160  # of the value that an example shows
# One name and one time for every run, so that equal data give an equal site.
RUN = RunIdentifier(run_name="validate", run_time=datetime(2000, 1, 1, tzinfo=UTC))
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"2\d{7}T\d{6}\.\d{6}Z")
REMOTE_LOGO = re.compile(r"https://great-expectations-web-assets[^\"']*")
SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
STYLE_HOSTS = (
    "https://cdn.jsdelivr.net https://cdnjs.cloudflare.com https://maxcdn.bootstrapcdn.com "
    "https://unpkg.com"
)
HEAD = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    f"style-src 'self' 'unsafe-inline' {STYLE_HOSTS}; font-src 'self' {STYLE_HOSTS}; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'\">"
    "<style>.tab-pane, .collapse { display: block !important; opacity: 1 !important }</style>"
)


@dataclass(frozen=True)
class ExpectationResult:
    """What one expectation found."""

    name: str
    sentence: str
    severity: str  # error | warning
    max_failing_fraction: float
    success: bool
    rows: int
    failing: int
    examples: tuple[str, ...]  # up to EXAMPLES failing rows: source, location, id and value
    exception: str = ""  # why the expectation could not be checked; "" if it was

    @property
    def stops(self) -> bool:
        """Whether the result stops the pipeline: an error that fails, or a check that broke."""
        return not self.success and (self.severity == "error" or bool(self.exception))

    def __str__(self) -> str:
        if self.exception:
            return f"{self.name}: could not be checked: {self.exception}"
        allowed = f" ({self.max_failing_fraction:.1%} may)" if self.max_failing_fraction else ""
        found = f"{self.failing} of {self.rows} rows fail{allowed}; expected: {self.sentence}"
        return f"{self.name}: {found}; for example {'; '.join(self.examples)}"


def run_suites(
    suites: Suites, frames: Mapping[str, pd.DataFrame], site: Path | None
) -> list[ExpectationResult]:
    """Check each suite against its frame; results come in the order of the suites.

    Writes Data Docs into folder `site` unless it is None.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    for name in list(context.get_site_names()):
        context.delete_data_docs_site(name)
    if site:
        context.add_data_docs_site("site", _site_config(site))
    source = context.data_sources.add_pandas("curated")
    results = []
    for name, expectations in suites.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        check = context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=suite)
        )
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[check],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": PLACE},
        )
        checked = checkpoint.run(batch_parameters={"dataframe": frames[name]}, run_id=RUN)
        [validated] = checked.run_results.values()
        by_name = {_name(one): one for one in validated.results}
        results += [_result(by_name[one.meta["name"]], len(frames[name])) for one in expectations]
    if site:
        _escape_values(context.validation_results_store)
        context.build_data_docs()
        _make_safe_and_repeatable(site)
    return results


def _site_config(site: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(site.resolve()),
        },
    }


def _name(result: Any) -> str:
    return str(result.expectation_config.meta["name"])


def _result(result: Any, rows: int) -> ExpectationResult:
    found, config = result.result, result.expectation_config
    failing_rows = found.get("unexpected_index_list") or []
    column = config.kwargs.get("column", "")
    severity = str(getattr(config.severity, "value", config.severity))
    return ExpectationResult(
        name=_name(result),
        sentence=config.description,
        severity="warning" if severity == "warning" else "error",
        max_failing_fraction=round(1 - config.kwargs.get("mostly", 1), 12),
        success=bool(result.success),
        rows=rows,
        failing=int(found.get("unexpected_count") or 0),
        examples=tuple(_example(row, column) for row in failing_rows[:EXAMPLES]),
        exception=_exception(result.exception_info),
    )


def _example(row: Mapping[str, Any], column: str) -> str:
    value = str(row.get(column, ""))[:VALUE_CHARACTERS]
    return f"{row['source']} {row['location']} {row['id']} ({value})"


def _exception(info: Any) -> str:
    """The messages of exceptions inside an expectation, which Great Expectations does not raise.

    `info` is one report, or a mapping of metrics to reports.
    """
    reports = [info] if "raised_exception" in (info or {}) else list((info or {}).values())
    messages = {str(one["exception_message"]) for one in reports if one["raised_exception"]}
    return "; ".join(sorted(messages))


def _escape_values(store: Any) -> None:
    """Escape the values in stored results, which Great Expectations' pages show as they are."""
    for key in store.list_keys():
        validated = store.get(key)
        for one in validated.results:
            one.result = _escaped(one.result)
            one.exception_info = _escaped(one.exception_info)
        store.set(key, validated)


def _escaped(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _escaped(value) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return [_escaped(value) for value in node]
    return html.escape(node) if isinstance(node, str) else node


def _make_safe_and_repeatable(site: Path) -> None:
    """Keep scripts from running, and replace random ids, clock times and the remote logo.

    The pages' own scripts come from ten addresses and only fold what the style in HEAD unfolds.
    """
    for page in sorted(site.rglob("*.html")):
        text = _number_ids(page.read_text(encoding="utf-8"))
        text = SCRIPT.sub("", text).replace("<head>", f"<head>{HEAD}", 1)
        text = TIME.sub("20000101T000000.000000Z", text)
        up = "../" * len(page.relative_to(site).parents[:-1])
        text = REMOTE_LOGO.sub(f"{up}static/images/logo-long.png", text)
        page.write_text(text, encoding="utf-8")


def _number_ids(page: str) -> str:
    """The page with id-0, id-1, ... in place of its random ids."""
    numbers: dict[str, str] = {}
    return UUID.sub(lambda found: numbers.setdefault(found[0], f"id-{len(numbers)}"), page)
