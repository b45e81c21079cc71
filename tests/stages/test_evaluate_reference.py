"""What the verdict compares: the model in use now, and the artifact that will be served."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.evaluation import variants
from tests.stages.evaluate_case import Case, figure
from tests.tiny import make_tiny_model


def test_one_model_under_two_names_is_loaded_once(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, plain = [], variants.load_for_inference

    def spy(**named: Any) -> Any:
        loaded.append((named["adapter"], named["precision"]))
        return plain(**named)

    monkeypatch.setattr(variants, "load_for_inference", spy)
    outputs = case.run(tmp_path, answer_file=tmp_path / "answers.sqlite")
    assert loaded == [(None, "bf16"), (case.zeros, "bf16")]
    models = json.loads(outputs["metrics"])["models"]
    assert models["reference"] == models["base"] == models["pretrained"]


def test_what_quantising_costs_counts_against_the_served_model(case: Case, tmp_path: Path) -> None:
    figures = json.loads(case.run(tmp_path, precision="nf4")["metrics"])
    assert figures["changes"]["adapted_vs_base"]["general"]["lost"] == 0
    assert figures["changes"]["adapted_vs_reference"]["general"]["lost"] > 2
    assert figures["changes"]["adapted_vs_reference"] == figures["changes"]["base_vs_reference"]
    assert figures["kl_to_reference"]["base"] == figures["kl_to_reference"]["adapted"]
    assert figures["kl_to_reference"]["base"]["value"] > 0
    judged = figures["judged"]
    assert (judged["reference"], judged["reference_version"]) == ("base", None)
    assert (judged["reference_precision"], judged["precision"]) == ("bf16", "nf4")


def test_the_reference_may_be_a_folder(case: Case, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=3)
    figures = json.loads(case.run(tmp_path, reference=str(other))["metrics"])
    assert figures["judged"]["reference"] == str(other)
    assert len(figures["judged"]["reference_sha256"]) == 64
    assert figures["models"]["reference"]["general"]["accuracy"] < 0.6
    assert figures["models"]["base"]["general"]["accuracy"] == 1.0
    assert figures["changes"]["adapted_vs_reference"]["general"]["difference"] > 0.4


@pytest.mark.parametrize("place", ["none", "adapter"])
def test_a_reference_that_is_no_whole_model_is_refused(
    case: Case, tmp_path: Path, place: str
) -> None:
    folder = case.zeros if place == "adapter" else tmp_path / "none"
    why = "holds an adapter" if place == "adapter" else "no model here"
    with pytest.raises(UserError, match=f"evaluate.reference: .*{why}.*; allowed: base, models:/"):
        case.run(tmp_path, reference=str(folder))


@pytest.mark.parametrize(
    ("precision", "links"),
    [
        ("bf16", ["base", "pretrained", "unmerged", "adapted"]),
        ("nf4", ["base", "pretrained", "unmerged", "merged", "adapted"]),
    ],
)
def test_a_merged_model_is_judged_merged_and_the_steps_end_at_it(
    case: Case, tmp_path: Path, precision: str, links: list[str]
) -> None:
    outputs = case.run(
        tmp_path, adapter=case.noise, artifact="merged", precision=precision, attribution=True
    )
    attribution = figure(outputs, ("attribution",))
    assert attribution["links"] == links
    assert attribution["steps"][-1]["step"] == {"bf16": "merging", "nf4": "quantisation"}[precision]
    total = sum(step["general"]["difference"] for step in attribution["steps"])
    whole = figure(outputs, ("changes", "adapted_vs_reference", "general", "difference"))
    assert total == pytest.approx(whole, abs=1e-5)
    assert figure(outputs, ("judged", "artifact")) == "merged"


def test_an_adapter_cannot_be_judged_where_all_weights_were_trained(
    case: Case, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"register\.artifact is adapter, but sft\.method: full"):
        case.run(tmp_path, adapter=case.inputs["base"])
