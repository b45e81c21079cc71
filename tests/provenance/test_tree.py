import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lmadapt.provenance.document import Lineage
from lmadapt.provenance.tree import lineage_tree


@pytest.fixture
def shown() -> str:
    """The tree of a document that an earlier release wrote, with code among its deps."""
    document = json.loads(Path(__file__).with_name("lineage-2.json").read_text())
    stream = io.StringIO()
    tree = lineage_tree(Lineage.model_validate(document), "tiny@champion")
    Console(width=200, file=stream).print(tree)
    return stream.getvalue()


def test_the_tree_leads_from_the_evaluation_to_the_raw_data(shown: str) -> None:
    lines = [line.strip("│├└─ ") for line in shown.splitlines()]
    assert lines[0] == "tiny@champion: SHIP"
    assert lines[1].startswith("commit d9ac62b")
    order = [
        "metrics/evaluate.json    by evaluate",
        "models/adapter  7a.dir  by sft in 61.2 s",
        "models/base  3c.dir  by fetch",
        "corpus {'rows': 963} from demo.weaknesses",
        "evaluation  from own.jsonl",
        "package cwe2  SHA-256 0123",
    ]
    assert lines[2 : 2 + len(order)] == order


def test_code_is_not_shown_as_an_input(shown: str) -> None:
    for code in ("report.css", "report.js", "report.html.j2", ".py", "demo  "):
        assert code not in shown
