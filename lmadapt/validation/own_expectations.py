"""Expectations of the project: its own file changes ours by name, and adds others."""

from itertools import chain
from pathlib import Path
from typing import Any, Literal

from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from pydantic import Field

from lmadapt.core.errors import UserError
from lmadapt.core.sections import Section, load_section, read_params
from lmadapt.validation.expectations import Suites

SEVERITIES = {"error": "critical", "warning": "warning"}  # ours, and Great Expectations'


class OwnExpectation(Section):
    """An entry of the file: a change of an expectation of ours, or a new one by its `type`."""

    type: str | None = None  # a type of Great Expectations
    arguments: dict[str, Any] = Field(default_factory=dict)
    description: str = ""
    max_failing_fraction: float | None = Field(default=None, ge=0, lt=1)
    severity: Literal["error", "warning"] | None = None


def add_own(suites: Suites, file: Path) -> None:
    """Change and add what the file says, in place: `FRAME.NAME: {severity: …, type: …, …}`.

    Raises UserError naming file, line and entry that is wrong.
    """
    ours = {one.meta["name"]: one for one in chain(*suites.values())}
    for name in read_params(file):
        own, frame = load_section(OwnExpectation, name, file), name.partition(".")[0]
        if own.type is None and name not in ours:
            raise UserError(
                f"{file}: {name}: not an expectation of ours, and `type` is missing to make one; "
                f"ours: {', '.join(ours)}"
            )
        if frame not in suites:
            raise UserError(
                f"{file}: {name}: must start with a table; allowed: {', '.join(suites)}"
            )
        expectation = ours[name] if own.type is None else _make(own, name, file)
        if own.max_failing_fraction is not None:
            expectation.mostly = 1 - own.max_failing_fraction
        if own.severity:
            expectation.severity = SEVERITIES[own.severity]
        if own.type:
            suites[frame].append(expectation)


def _make(own: OwnExpectation, name: str, file: Path) -> Any:
    try:
        configuration = ExpectationConfiguration(
            type=own.type or "",
            kwargs=own.arguments,
            meta={"name": name},
            description=own.description or name,
        )
        return configuration.to_domain_obj()
    except Exception as error:  # Great Expectations raises anything about a type or its arguments
        raise UserError(f"{file}: {name}: {type(error).__name__}: {error}") from None
