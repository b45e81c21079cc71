import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from lmadapt.provenance.document import Lineage, lineage_schema
from tests.adapted import ROOT, make_lineage

EARLIER = Path(__file__).with_name("lineage-2.json")  # as the release before this schema wrote it


def test_the_schema_in_docs_is_that_of_the_model() -> None:
    stored = (ROOT / "docs/lineage.schema.json").read_text()
    assert stored == lineage_schema(), "stale: run `make schemas`"


def test_a_document_fits_the_schema_and_is_read_back_equal() -> None:
    lineage = make_lineage(merge_difference={"logits_mean_absolute": 0.1, "kl_nats": 0.001})
    document = json.loads(json.dumps(lineage.model_dump(mode="json")))
    jsonschema.validate(document, json.loads(lineage_schema()))
    assert document["schema"] == "lmadapt-lineage/3"
    assert Lineage.model_validate(document) == lineage


def test_a_document_of_an_earlier_release_is_read() -> None:
    document = json.loads(EARLIER.read_text())
    jsonschema.validate(document, json.loads(lineage_schema()))
    lineage = Lineage.model_validate(document)
    assert lineage.document_schema == "lmadapt-lineage/2"
    assert lineage.runs["sft"].seconds == 61.2
    assert lineage.merge_difference is None
    assert lineage.verdict.outcome == "SHIP"
    assert lineage.figures["domain_change"] == 0.037
    assert "energy_kwh" not in lineage.runs["sft"].model_dump()


def test_a_document_of_a_later_release_is_refused() -> None:
    with pytest.raises(ValidationError, match="schema"):
        make_lineage(schema="lmadapt-lineage/4")


def test_outputs_are_found_by_path() -> None:
    stages = {"sft": {"deps": {}, "outs": {"models/adapter": "ab.dir"}}}
    lineage = make_lineage(stages=stages)
    assert lineage.output_md5(Path("models/adapter")) == "ab.dir"
    assert lineage.output_md5(Path("models/base")) is None


def test_versions_differ_by_adapter_base_evaluation_and_artifact() -> None:
    lineage = make_lineage()
    contents = {lineage.content_sha256("adapter"), lineage.content_sha256("merged")}
    for part in ("adapter_sha256", "base_sha256", "evaluation_sha256"):
        contents.add(make_lineage(**{part: "b" * 64}).content_sha256("adapter"))
    assert len(contents) == 5
    other = make_lineage(figures={"domain_change": 0.1}).content_sha256("adapter")
    assert other == lineage.content_sha256("adapter")
