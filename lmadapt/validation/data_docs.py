"""Running suites with Great Expectations, and its Data Docs as a site of plain files that a second run repeats."""

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

EXAMPLES = 3
# One name and one time for every run: equal data give an equal site, whatever the clock says.
RUN = RunIdentifier(run_name="validate", run_time=datetime(2000, 1, 1, tzinfo=UTC))
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"2\d{7}T\d{6}\.\d{6}Z")
REMOTE_LOGO = re.compile(r"https://great-expectations-web-assets[^\"']*")


@dataclass(frozen=True)
class Outcome:
    """What one expectation found."""

    name: str
    sentence: str
    severity: str  # error | warning
    max_failing_fraction: float
    success: bool
    rows: int
    failing: int
    examples: tuple[str, ...]  # up to EXAMPLES failing rows: source, location and what was found
    exception: str = ""  # set when the expectation could not be checked at all

    def __str__(self) -> str:
        if self.exception:
            return f"{self.name}: could not be checked: {self.exception}"
        allowed = f" ({self.max_failing_fraction:.1%} may)" if self.max_failing_fraction else ""
        rows = f"{self.failing} of {self.rows} rows fail{allowed}"
        return f"{self.name}: {rows}; expected: {self.sentence}; for example {'; '.join(self.examples)}"


def run_suites(
    suites: Suites, frames: Mapping[str, pd.DataFrame], site: Path | None
) -> list[Outcome]:
    """Check each suite against its frame, write Data Docs into folder `site` unless it is None.

    Outcomes come in the order of the suites.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    for name in list(context.get_site_names()):
        context.delete_data_docs_site(name)
    if site:
        context.add_data_docs_site("site", _site_config(site))
    source = context.data_sources.add_pandas("curated")
    outcomes = []
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
        result = checkpoint.run(batch_parameters={"dataframe": frames[name]}, run_id=RUN)
        by_name = {_name(one): one for one in next(iter(result.run_results.values())).results}
        outcomes += [_outcome(by_name[one.meta["name"]], len(frames[name])) for one in expectations]
    if site:
        context.build_data_docs()
        _make_repeatable(site)
    return outcomes


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


def _outcome(result: Any, rows: int) -> Outcome:
    found = result.result
    config = result.expectation_config
    index = found.get("unexpected_index_list") or []
    column = config.kwargs.get("column", "")
    examples = [
        f"{row['source']} {row['location']} {row['id']} ({str(row.get(column, ''))[:160]})"
        for row in index[:EXAMPLES]
    ]
    return Outcome(
        name=_name(result),
        sentence=config.description,
        severity="warning"
        if str(getattr(config.severity, "value", config.severity)) == "warning"
        else "error",
        max_failing_fraction=round(1 - config.kwargs.get("mostly", 1), 12),
        success=bool(result.success),
        rows=rows,
        failing=int(found.get("unexpected_count") or 0),
        examples=tuple(examples),
        exception=_exception(result.exception_info),
    )


def _exception(info: Any) -> str:
    """The message of an exception inside an expectation, which Great Expectations reports without raising it.

    `info` is one report, or a mapping of metrics to reports.
    """
    reports = [info] if "raised_exception" in (info or {}) else list((info or {}).values())
    return "; ".join(
        sorted({str(one["exception_message"]) for one in reports if one["raised_exception"]})
    )


def _make_repeatable(site: Path) -> None:
    """Replace random ids and clock times in the pages, and the logo fetched from the network by the local one."""
    for page in sorted(site.rglob("*.html")):
        seen: dict[str, str] = {}
        text = UUID.sub(
            lambda found: seen.setdefault(found[0], f"id-{len(seen)}"),
            page.read_text(encoding="utf-8"),
        )  # noqa: B023
        text = TIME.sub("20000101T000000.000000Z", text)
        up = "../" * len(page.relative_to(site).parents[:-1])
        page.write_text(REMOTE_LOGO.sub(f"{up}static/images/logo-long.png", text), encoding="utf-8")
