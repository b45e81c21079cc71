import json
from pathlib import Path
from typing import Any

import pytest

from lmadapt.evaluation import answers, variants
from lmadapt.models import log_likelihoods
from tests.planted import make_adapter, make_task
from tests.stages.evaluate_case import Case, figure


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("precision", "nf4", ("models", "base", "bits_per_byte", "general", "value")),
        ("heldout_tokens", 90, ("models", "base", "bits_per_byte", "general", "bytes")),
    ],
)
def test_settings_of_the_measurement_change_the_figures(
    *,
    case: Case,
    zeros: dict[str, bytes],
    tmp_path: Path,
    key: str,
    value: object,
    path: tuple[str, ...],
) -> None:
    assert figure(zeros, path) != figure(case.run(tmp_path, **{key: value}), path)


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("margin", 0.01, ("changes", "adapted_vs_reference", "general", "noninferiority_p")),
        (
            "category_margin",
            0.01,
            (
                "changes",
                "adapted_vs_reference",
                "categories",
                "general",
                "sums",
                "noninferiority_p",
            ),
        ),
        ("significance", 0.2, ("models", "base", "general", "interval")),
        ("score", "accuracy", ("temperature",)),
        ("margin_scale", "chance_adjusted", ("changes", "adapted_vs_base", "general", "margin")),
        ("min_domain_gain", 0.1, ("changes", "adapted_vs_base", "domain", "min_gain")),
        ("bits_per_byte_margin", 0.2, ("alarms", "bits_per_byte", "margin")),
        ("kl_margin", 2.0, ("alarms", "kl", "margin")),
    ],
)
def test_settings_of_the_verdict_change_the_figures_without_loading_a_model(
    *,
    case: Case,
    zeros: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    value: object,
    path: tuple[str, ...],
) -> None:
    monkeypatch.setattr(
        variants, "load_for_inference", lambda **named: pytest.fail(f"{named} was loaded")
    )
    assert figure(zeros, path) != figure(case.run(tmp_path, **{key: value}), path)


def test_only_the_model_that_changed_is_loaded_again(
    case: Case, zeros: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, plain = [], variants.load_for_inference

    def spy(**named: Any) -> Any:
        loaded.append(named["adapter"])
        return plain(**named)

    monkeypatch.setattr(variants, "load_for_inference", spy)
    other = make_adapter(case.inputs["base"], tmp_path / "other", noise=0.3)
    case.run(tmp_path, adapter=other)
    assert loaded == [other, None]  # the base once more, for the items that `other` has lost


def test_a_stopped_run_continues_where_it_was(
    case: Case, noise: dict[str, bytes], tmp_path: Path
) -> None:
    answer_file, asked = tmp_path / "answers.sqlite", []
    plain = log_likelihoods._score_batch

    def count(model: Any, rows: list[Any]) -> list[float]:
        asked.append(len(rows))
        if len(asked) == 8:
            raise KeyboardInterrupt
        return plain(model, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_likelihoods, "_score_batch", count)
        with pytest.raises(KeyboardInterrupt):
            case.run(tmp_path, adapter=case.noise, answer_file=answer_file, batch_tokens=400)
        first = len(asked)
        outputs = case.run(tmp_path, adapter=case.noise, answer_file=answer_file, batch_tokens=400)
        whole = len(asked)
        case.run(
            tmp_path, adapter=case.noise, answer_file=tmp_path / "another.sqlite", batch_tokens=400
        )
    assert whole - first == len(asked) - whole - (first - 1)
    assert figure(outputs, ("verdict", "outcome")) == "HOLD"
    assert figure(outputs, ("models", "base", "general")) == figure(
        noise, ("models", "base", "general")
    )


def test_attribution_names_the_step_that_lost_the_items(case: Case, tmp_path: Path) -> None:
    figures = json.loads(case.run(tmp_path, adapter=case.noise, attribution=True)["metrics"])[
        "attribution"
    ]
    assert figures["links"] == ["base", "pretrained", "adapted", "merged"]
    changes = {step["step"]: step["general"]["difference"] for step in figures["steps"]}
    assert changes["pre-training"] == 0
    assert changes["fine-tuning"] < -0.3
    assert abs(changes["merging"]) < 0.2


def test_damage_by_quantisation_is_attributed_to_quantisation(case: Case, tmp_path: Path) -> None:
    figures = json.loads(case.run(tmp_path, precision="nf4", attribution=True)["metrics"])
    attribution = figures["attribution"]
    assert attribution["links"] == ["base", "pretrained", "quantised", "adapted", "merged"]
    changes = {step["step"]: step["general"] for step in attribution["steps"]}
    assert changes["quantisation"]["lost"] > 2
    assert (changes["pre-training"]["lost"], changes["fine-tuning"]["lost"]) == (0, 0)
    assert changes["merging"]["gained"] == changes["quantisation"]["lost"]
    assert figures["verdict"]["outcome"] != "HOLD"


def test_the_adapter_scale_is_chosen_on_one_half_and_judged_on_the_other(
    case: Case, tmp_path: Path
) -> None:
    figures = json.loads(case.run(tmp_path, adapter=case.noise, alpha_scale="auto")["metrics"])
    sweep = figures["dial"]
    assert [row["alpha_scale"] for row in sweep["rows"]] == [0.25, 0.5, 0.75, 1.0]
    assert sweep["development_items"] == sweep["sealed_items"] == 90
    # No scale keeps general ability, so the one with the smallest loss is chosen.
    least = max(sweep["rows"], key=lambda row: row["general"]["difference"])
    assert figures["alpha_scale"] == sweep["chosen"] == least["alpha_scale"]
    assert (
        figures["models"]["base"]["general"]["n"] + figures["models"]["base"]["domain"]["n"] == 90
    )
    losses = [row["general"]["difference"] for row in sweep["rows"]]
    assert losses[0] > losses[-1]


def test_tasks_of_the_harness_are_added_to_the_general_items(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zeros: dict[str, bytes]
) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    task = make_task(tmp_path, questions=30)
    figures = json.loads(case.run(tmp_path, lm_eval_tasks=[task])["metrics"])
    assert figures["models"]["base"]["categories"]["general"]["capitals_task"]["n"] == 30
    assert (
        figures["models"]["base"]["general"]["n"]
        == figure(zeros, ("models", "base", "general", "n")) + 30
    )
    assert (
        figures["changes"]["adapted_vs_reference"]["categories"]["general"]["capitals_task"][
            "difference"
        ]
        == 0
    )


def test_a_given_adapter_scale_is_applied(
    case: Case, noise: dict[str, bytes], tmp_path: Path
) -> None:
    figures = json.loads(case.run(tmp_path, adapter=case.noise, alpha_scale=0.0)["metrics"])
    assert figures["alpha_scale"] == 0
    assert figures["changes"]["adapted_vs_reference"]["general"]["difference"] == 0
    assert figure(noise, ("alpha_scale",)) == 1


def test_batch_tokens_and_max_new_tokens_reach_the_model(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, lengths = [], []
    plain_batch, plain_ask = log_likelihoods._score_batch, answers.answer_in_batches

    def spy_batch(model: Any, rows: list[Any]) -> list[float]:
        batches.append(len(rows) * max(len(row.tokens) for row in rows))
        return plain_batch(model, rows)

    def spy_ask(*arguments: Any, max_new_tokens: int, **named: Any) -> list[str]:
        lengths.append(max_new_tokens)
        return plain_ask(*arguments, max_new_tokens=max_new_tokens, **named)

    monkeypatch.setattr(log_likelihoods, "_score_batch", spy_batch)
    monkeypatch.setattr(answers, "answer_in_batches", spy_ask)
    case.run(tmp_path, answer_file=tmp_path / "answers.sqlite", batch_tokens=600, max_new_tokens=2)
    assert max(batches) <= 600
    assert lengths == [2, 2]  # the base has three names here, and is asked once
