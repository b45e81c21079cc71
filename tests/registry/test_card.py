from pathlib import Path
from typing import Any

import pytest
import yaml

from lmadapt.core.recipes import read_recipe
from lmadapt.provenance.document import MergeDifference
from lmadapt.registry.card import Licenses, write_card
from lmadapt.verdict.figures import EvaluationFigures
from tests.adapted import ROOT, evaluation_figures, make_lineage

PARAMS = read_recipe("demo-cpu", ROOT / "recipes")


def card(folder: Path, **changes: Any) -> str:
    write_card(
        folder / "README.md",
        make_lineage(params=PARAMS, metrics={"fetch": {"corpus": {"rows": 963}}}),
        EvaluationFigures.model_validate(evaluation_figures()),
        name="tiny",
        licenses=Licenses(base="gemma", data="CC-BY-4.0"),
        **({"merge_difference": None} | changes),
    )
    return (folder / "README.md").read_text()


def test_the_card_of_an_adapter_has_figures_data_and_licences(tmp_path: Path) -> None:
    text = card(tmp_path)
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["library_name"] == "peft"
    assert metadata["license_name"] == "gemma"
    results = metadata["model-index"][0]["results"]
    assert [result["metrics"][0]["value"] for result in results] == [pytest.approx(0.6)] * 2
    for line in (
        "**SHIP.** general accuracy fell by 0.1 points [-0.5, 0.3].",
        "Licence of the data: CC-BY-4.0.",
        "| domain accuracy, n = 400 | 40.0 % | 60.0 % | +20.0 points [+15.0, +25.0] |",
        "| general: capitals, n = 400 | | | -0.1 points [-0.5, +0.3] |",
    ):
        assert line in text.splitlines()
    assert any(line.startswith("| corpus | 963 | demo.") for line in text.splitlines())


def test_the_card_of_a_merged_model_says_what_merging_changed(tmp_path: Path) -> None:
    difference = MergeDifference(logits_mean_absolute=0.01, kl_nats=0.002)
    text = card(tmp_path, merge_difference=difference)
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "transformers"
    assert "predictions by 0.002 nats per token" in text
