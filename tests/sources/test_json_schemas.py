"""JSON schemas that refer to other places, and answers that are nested deeply."""

import json
from typing import Any

import pytest

from lmadapt.sources.answer_checks import check_problem, score_answer

TREE = {"properties": {"child": {"$ref": "#"}}}
NAMED = {"$defs": {"name": {"type": "string"}}, "properties": {"name": {"$ref": "#/$defs/name"}}}
DEEP = '{"child": ' * 900 + "{}" + "}" * 900


def check(schema: dict[str, Any]) -> str:
    return json.dumps({"kind": "json_schema", "schema": schema})


@pytest.mark.parametrize("reference", ["#/$defs/none", "other.json", "http://127.0.0.1:9/x.json"])
def test_a_reference_that_leads_to_nothing_is_refused_when_items_are_read(reference: str) -> None:
    schema = {"properties": {"name": {"$ref": reference}}}
    problem = check_problem(check(schema))
    assert f"the $ref {reference!r} leads to nothing in the schema" in problem


def test_a_schema_that_refers_to_itself_without_end_is_refused() -> None:
    assert "refers to itself without end" in check_problem(check({"$ref": "#"}))


def test_references_within_a_schema_are_followed() -> None:
    assert score_answer('{"name": "Ann"}', check(NAMED)) == 1
    assert score_answer('{"name": 7}', check(NAMED)) == 0
    assert score_answer('{"child": {"child": {}}}', check(TREE)) == 1
    schema = {"properties": {"link": {"const": {"$ref": "nowhere"}}}}
    assert score_answer('{"link": {"$ref": "nowhere"}}', check(schema)) == 1


@pytest.mark.parametrize("answer", [DEEP, DEEP * 3, "[" * 100_000, '{"a":' * 100_000])
def test_an_answer_that_is_nested_too_deeply_is_wrong(answer: str) -> None:
    assert score_answer(answer, check(TREE)) == 0
    assert score_answer(answer, '{"kind": "json_keys", "keys": ["none"]}') == 0
