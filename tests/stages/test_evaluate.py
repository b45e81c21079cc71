import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lmadapt.core.errors import UserError
from lmadapt.core.tables import ITEM, write_table
from lmadapt.evaluation.exam import make_exam
from lmadapt.evaluation.predictions import PREDICTION
from lmadapt.models.loading import load_tokenizer
from lmadapt.verdict.figures import EvaluationFigures
from tests.planted import CATEGORIES, ITEMS_PER_CATEGORY, make_heldout, make_items
from tests.stages.evaluate_case import Case, figure


def test_an_adapter_of_zeros_changes_nothing_and_is_not_held(zeros: dict[str, bytes]) -> None:
    figures = json.loads(zeros["metrics"])
    change = figures["changes"]["adapted_vs_reference"]
    assert figures["verdict"]["outcome"] == "INCONCLUSIVE"
    assert (
        change["general"]["difference"],
        change["general"]["lost"],
        change["domain"]["gained"],
    ) == (0, 0, 0)
    assert change["bits_per_byte"]["domain"]["difference"] == 0
    assert figures["behaviour"] == {"gained": [], "lost": []}
    assert (figures["forgetting"], figures["backward_transfer"]) == (0, 0)


def test_an_adapter_of_noise_is_held_and_forgetting_is_measured(noise: dict[str, bytes]) -> None:
    figures = json.loads(noise["metrics"])
    general = figures["models"]["adapted"]["general"]["accuracy"]
    assert figures["verdict"]["outcome"] == "HOLD"
    assert figures["models"]["base"]["general"]["accuracy"] == 1.0
    assert general < 0.6
    assert figures["forgetting"] == pytest.approx(1 - general, abs=1e-5)
    assert figures["backward_transfer"] == pytest.approx(general - 1, abs=1e-5)
    assert figures["changes"]["adapted_vs_reference"]["bits_per_byte"]["general"]["difference"] > 0


def test_two_runs_write_the_same_bytes(case: Case, noise: dict[str, bytes], tmp_path: Path) -> None:
    assert case.run(tmp_path, adapter=case.noise, answer_file=tmp_path / "answers.sqlite") == noise


def test_figures_have_stable_keys(zeros: dict[str, bytes]) -> None:
    figures = json.loads(zeros["metrics"])
    extra = {
        "alpha_scale",
        "attribution",
        "behaviour_rates",
        "calibration",
        "classification",
        "confident_losses",
        "dial",
        "exam",
        "fairness",
        "generation",
        "temperature",
        "alarms",
        "behaviour_tests",
        "judged",
        "kl_to_reference",
        "label_gaps",
        "triage",
    }
    assert (
        set(figures)
        == {"models", "changes", "behaviour", "backward_transfer", "forgetting", "verdict"} | extra
    )
    assert EvaluationFigures.model_validate(figures).model_dump(mode="json") == figures
    assert set(figures["changes"]) == {
        "adapted_vs_reference",
        "base_vs_reference",
        "pretrained_vs_base",
        "adapted_vs_pretrained",
        "adapted_vs_base",
    }
    base = figures["models"]["base"]
    assert base["free_answers"] == {"empty": 0, "looping": 0, "n": 2}
    assert {name: set(base["categories"][name]) for name in ("domain", "general")} == {
        "domain": {"weaknesses"},
        "general": {"capitals", "sums"},
    }
    assert set(base["bits_per_byte"]["domain"]) == {"value", "interval", "bytes", "documents"}
    assert base["behaviour"]["n"] == 2
    needed = {
        "margin",
        "noninferiority_p",
        "worse_p",
        "minimum_detectable_effect",
        "items_needed",
        "mcnemar_p",
    }
    assert needed <= set(figures["changes"]["adapted_vs_reference"]["general"])


def test_every_answer_of_every_model_is_written(noise: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "predictions").write_bytes(noise["predictions"])
    table = pq.read_table(tmp_path / "predictions")
    rows = table.to_pylist()
    assert table.schema.equals(PREDICTION)
    assert len(rows) == 4 * (ITEMS_PER_CATEGORY * len(CATEGORIES) + 2 + 4)
    figures = json.loads(noise["metrics"])
    right = [row["score"] for row in rows if (row["model"], row["group"]) == ("adapted", "general")]
    assert sum(right) / len(right) == pytest.approx(
        figures["models"]["adapted"]["general"]["accuracy"], abs=1e-5
    )
    assert {len(row["log_likelihoods"]) for row in rows if row["group"] == "domain"} == {4}
    assert all(isinstance(row["response"], str) for row in rows if row["group"] == "behaviour")


def test_the_accuracy_plot_has_a_row_for_each_model_and_category(zeros: dict[str, bytes]) -> None:
    lines = zeros["accuracy"].decode().splitlines()
    assert lines[0] == "bar,model,category,group,accuracy,low,high"
    assert len(lines) == 1 + 4 * (2 + len(CATEGORIES))
    assert lines[1].startswith("domain all 0 reference,reference,all,domain,1.0,")


def test_the_report_is_one_file_and_markup_in_data_is_inert(
    noise: dict[str, bytes],
) -> None:
    page = noise["report"].decode()
    assert "HOLD" in page
    assert page.count("<script") == 2
    assert "<img" not in page
    assert "\\u003cimg src=x onerror=alert(1)\\u003e" in page
    assert not re.findall(r"(?:https?:)?//[a-z]", page)
    assert page.count("<polyline") == 2
    assert "exact duplicates" in page


def test_lost_items_are_asked_again_in_other_forms(noise: dict[str, bytes]) -> None:
    again = figure(noise, ("triage", "few_shot", "regained"))
    assert noise["report"].decode().count("right again after solved examples") == again
    found = figure(noise, ("triage",))
    assert found["lost"] == found["asked"] > 20
    assert found["chance"] == 0.25
    for form in ("few_shot", "bare"):
        assert 0 <= found[form]["interval"][0] <= found[form]["share"] <= found[form]["interval"][1]
        kept = found[form]["kept_share"]
        assert found[form]["difference"] == pytest.approx(found[form]["share"] - kept, abs=1e-5)


def test_losses_of_items_that_the_base_knew_well_are_counted_and_noted(
    zeros: dict[str, bytes], noise: dict[str, bytes]
) -> None:
    assert figure(zeros, ("confident_losses",))["lost"] == 0
    found = figure(noise, ("confident_losses",))
    assert found["known"] == 60  # half of 120 general items, all of which the base has right
    assert found["lost"] == noise["report"].decode().count("known well before") > 0
    assert found["interval"][0] < found["share"] < found["interval"][1]


def test_divergence_from_the_base_is_zero_for_zeros_and_positive_for_noise(
    zeros: dict[str, bytes], noise: dict[str, bytes]
) -> None:
    assert figure(zeros, ("kl_to_reference", "adapted", "value")) == 0
    assert figure(zeros, ("triage",)) is None
    low, high = figure(noise, ("kl_to_reference", "adapted", "interval"))
    assert low < figure(noise, ("kl_to_reference", "adapted", "value")) < high
    assert figure(noise, ("kl_to_reference", "adapted", "value")) > 0


def test_the_fairness_gap_and_its_change_are_measured(
    zeros: dict[str, bytes], noise: dict[str, bytes]
) -> None:
    same, moved = figure(zeros, ("fairness", "gender")), figure(noise, ("fairness", "gender"))
    assert same["n"] == 4
    assert (same["change"], same["interval"]) == (0, [0, 0])
    assert same["gap_before"] == moved["gap_before"] != 0
    assert moved["change"] == pytest.approx(moved["gap_after"] - moved["gap_before"], abs=1e-5)
    assert moved["interval"][0] < moved["change"] < moved["interval"][1]


def test_heldout_text_is_limited_to_its_tokens(case: Case) -> None:
    tokenizer = load_tokenizer(case.inputs["base"])
    exam = make_exam([], make_heldout(), tokenizer, heldout_tokens=200, seed=0)
    for group in ("domain", "general"):
        pairs = zip(exam.documents, exam.windows, strict=True)
        tokens = [
            sum(len(w.continuations[0]) for w in windows)
            for d, windows in pairs
            if d["group"] == group
        ]
        assert 0 < sum(tokens) <= 200


def test_an_item_whose_answer_is_none_of_its_choices_is_refused(case: Case, tmp_path: Path) -> None:
    items = make_items()
    write_table([items[0] | {"answer": 4}, *items[1:]], ITEM, tmp_path / "items.parquet")
    broken = Case(case.inputs | {"items": tmp_path / "items.parquet"}, case.zeros, case.noise)
    with pytest.raises(UserError, match="'weaknesses/000': answer 4 is not among its 4 choices"):
        broken.run(tmp_path)
    assert not (tmp_path / "metrics").exists()


def test_an_unknown_category_in_not_measured_is_refused_before_a_model_is_asked(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.evaluate.measure", lambda *_: pytest.fail("a model was asked"))
    with pytest.raises(UserError, match=r"evaluate\.not_measured names 'sum'.*the exam has .*sums"):
        case.run(tmp_path, not_measured=["sum"])
