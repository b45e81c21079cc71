import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from lmadapt.core.errors import UserError
from lmadapt.verdict.figures import EvaluationFigures, read_evaluation, schema_text
from tests.report_inputs import make_figures

ROOT = Path(__file__).parents[2]
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


def test_the_schema_in_docs_is_what_the_models_give() -> None:
    written = (ROOT / "docs/evaluate.schema.json").read_text()
    assert written == schema_text(EvaluationFigures, "metrics/evaluate.json"), (
        "stale: python -m lmadapt.verdict.figures > docs/evaluate.schema.json"
    )


def test_the_schema_is_valid_and_allows_no_undocumented_key() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    found = list(objects(SCHEMA))
    assert len(found) > 20
    assert all(schema["additionalProperties"] is False for schema in found)
    assert all(schema["description"] for schema in found)


def test_an_interval_has_two_ends() -> None:
    interval = SCHEMA["$defs"]["Interval"]
    assert (interval["minItems"], interval["maxItems"]) == (2, 2)


@pytest.mark.parametrize("outcome", ["SHIP", "HOLD"])
def test_figures_fit_the_schema(outcome: str) -> None:
    assert errors(make_figures(outcome)) == []


def test_figures_without_the_optional_measurements_fit_the_schema() -> None:
    nothing = dict.fromkeys(("attribution", "kl_to_reference", "triage", "dial"))
    empty: dict[str, Any] = {"fairness": {}, "classification": {}, "generation": {}}
    assert errors(make_figures() | nothing | empty) == []


@pytest.mark.parametrize("outcome", ["SHIP", "HOLD"])
def test_the_models_read_and_write_the_same_figures(outcome: str) -> None:
    figures = make_figures(outcome)
    read = EvaluationFigures.model_validate(figures)
    assert read.model_dump(mode="json") == figures


WRONG = [
    (("verdict", "outcome"), "MAYBE", "verdict/outcome: 'MAYBE' is not one of"),
    (
        ("models", "base", "domain", "accuracy"),
        48.2,
        "models/base/domain/accuracy: 48.2 is greater than",
    ),
    (
        ("changes", "adapted_vs_reference", "general", "intervall"),
        [0, 1],
        "('intervall' was unexpected)",
    ),
    (("changes", "adapted"), {}, "changes: 'adapted' does not match any of the regexes"),
    (("alpha_scale",), "auto", "alpha_scale: 'auto' is not of type 'number'"),
    (
        ("models", "base", "domain", "interval"),
        [0.1],
        "models/base/domain/interval: [0.1] is too short",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_wrong_figures_fit_neither_the_schema_nor_the_models(
    path: tuple[Any, ...], value: Any, message: str
) -> None:
    figures = make_figures()
    inner: Any = figures
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert any(message in error for error in errors(figures)), errors(figures)
    with pytest.raises(ValidationError):
        EvaluationFigures.model_validate(figures)


def test_a_test_against_a_margin_needs_its_margin() -> None:
    figures = make_figures()
    del figures["changes"]["adapted_vs_reference"]["general"]["margin"]
    assert errors(figures) == [
        "changes/adapted_vs_reference/general: 'margin' is a required property"
    ]


def test_a_file_that_does_not_fit_is_refused_by_file_key_and_value(tmp_path: Path) -> None:
    file = tmp_path / "evaluate.json"
    file.write_text(json.dumps(make_figures() | {"alpha_scale": -2.0}))
    with pytest.raises(UserError, match=r"evaluate\.json: alpha_scale: .*got -2\.0"):
        read_evaluation(file)


def test_the_models_load_no_heavy_library() -> None:
    program = (
        "import sys, lmadapt.verdict.figures; "
        "sys.exit(bool({'numpy', 'scipy', 'pyarrow', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
