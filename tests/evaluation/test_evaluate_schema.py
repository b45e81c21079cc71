import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.adapted import ROOT
from tests.report_inputs import make_figures

SCHEMA = json.loads((ROOT / "docs/evaluate.schema.json").read_text())


def errors(figures: Any) -> list[str]:
    found = Draft202012Validator(SCHEMA).iter_errors(figures)
    return ["/".join(map(str, error.absolute_path)) + f": {error.message}" for error in found]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every sub-schema that lists properties."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)


def test_the_schema_is_one_and_leaves_nothing_undocumented() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    found = [schema for schema in objects(SCHEMA) if schema.get("type") != "string"]
    assert len(found) > 20
    assert all(schema["additionalProperties"] is False for schema in found)


@pytest.mark.parametrize("outcome", ["SHIP", "HOLD"])
def test_figures_fit_the_schema(outcome: str) -> None:
    assert errors(make_figures(outcome)) == []


def test_what_was_not_measured_fits_the_schema() -> None:
    empty = {"attribution": None, "kl_to_base": None, "triage": None, "dial": None}
    assert (
        errors(make_figures() | empty | {"fairness": {}, "classification": {}, "generation": {}})
        == []
    )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("verdict", "outcome"), "MAYBE", "verdict/outcome: 'MAYBE' is not one of"),
        (
            ("models", "base", "domain", "accuracy"),
            48.2,
            "models/base/domain/accuracy: 48.2 is greater than",
        ),
        (
            ("changes", "adapted_vs_base", "general", "intervall"),
            [0, 1],
            "('intervall' was unexpected)",
        ),
        (("alpha_scale",), "auto", "alpha_scale: 'auto' is not of type 'number'"),
        (
            ("dial", "rows", 0, "domain", "interval"),
            [0.1],
            "dial/rows/0/domain/interval: [0.1] is too short",
        ),
    ],
)
def test_other_figures_do_not(path: tuple[Any, ...], value: Any, message: str) -> None:
    figures = make_figures()
    inner: Any = figures
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert any(message in error for error in errors(figures)), errors(figures)


def test_a_test_against_a_margin_needs_its_margin() -> None:
    figures = make_figures()
    del figures["changes"]["adapted_vs_base"]["general"]["margin"]
    assert errors(figures) == ["changes/adapted_vs_base/general: 'margin' is a required property"]
