import gc
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lmadapt.core.errors import UserError
from lmadapt.core.tables import ITEM, write_table
from lmadapt.evaluation import answers, variants
from lmadapt.evaluation.exam import make_exam
from lmadapt.evaluation.predictions import PREDICTION
from lmadapt.models import log_likelihoods
from lmadapt.models.loading import load_bf16, load_tokenizer
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import choose
from lmadapt.verdict.figures import EvaluationFigures
from stages.evaluate import EvaluateParams, evaluate
from tests.planted import (
    CATEGORIES,
    ITEMS_PER_CATEGORY,
    make_adapter,
    make_heldout,
    make_inputs,
    make_items,
    make_task,
)
from tests.tiny import make_tiny_model

PARAMS = {
    "seed": 0,
    "precision": "bf16",
    "alpha_scale": 1.0,
    "attribution": False,
    "lm_eval_tasks": [],
    "margin": 0.3,
    "category_margin": 0.4,
    "significance": 0.05,
    "batch_tokens": 4096,
    "heldout_tokens": 200,
    "max_new_tokens": 6,
}
OUTPUTS = ("predictions", "report", "accuracy", "metrics")


@dataclass(frozen=True)
class Case:
    """Models and inputs on disk; `run` runs the stage and returns the bytes of its four outputs."""

    inputs: dict[str, Path]
    zeros: Path
    noise: Path

    def run(
        self,
        target: Path,
        *,
        adapter: Path | None = None,
        answer_file: Path | None = None,
        **changed: Any,
    ) -> dict[str, bytes]:
        outputs = {name: target / name for name in OUTPUTS}
        params = EvaluateParams(**(PARAMS | changed))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "stages.evaluate.ANSWER_FILE",
                answer_file or self.inputs["items"].with_name("answers.sqlite"),
            )
            evaluate(params, **self.inputs, adapter=adapter or self.zeros, **outputs)
        return {name: path.read_bytes() for name, path in outputs.items()}


@pytest.fixture(scope="module", autouse=True)
def _small_heap() -> Iterator[None]:
    """Freeze the heap: the stage collects garbage after each model, 0.5 s with pytest's modules."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A base that answers every item right; `pretrained` equals it, and `noise` ruins it."""
    folder = tmp_path_factory.mktemp("evaluate")
    base = make_tiny_model(folder / "base")
    items = make_items()
    exam = make_exam(items, [], load_tokenizer(base), heldout_tokens=1, seed=0)
    pairs = [
        (q, item)
        for q, item in zip(exam.questions, exam.items, strict=True)
        if item["answer"] is not None
    ]
    model = load_bf16(base)
    likelihoods = score(lambda: model, [question for question, _ in pairs], batch_tokens=4096)
    right = {
        item["id"]: choose(v, item["choices"])
        for v, (_, item) in zip(likelihoods, pairs, strict=True)
    }
    inputs = make_inputs(folder, [item | {"answer": right.get(item["id"])} for item in items])
    zeros, noise = (make_adapter(base, folder / f"noise {size}", noise=size) for size in (0.0, 1.0))
    return Case(inputs | {"base": base, "pretrained": base}, zeros, noise)


@pytest.fixture(scope="module")
def zeros(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return case.run(tmp_path_factory.mktemp("zeros"))


@pytest.fixture(scope="module")
def noise(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return case.run(tmp_path_factory.mktemp("noise"), adapter=case.noise)


def figure(outputs: dict[str, bytes], path: tuple[str, ...]) -> Any:
    found = json.loads(outputs["metrics"])
    for step in path:
        found = found[step]
    return found


def test_an_adapter_of_zeros_changes_nothing_and_is_not_held(zeros: dict[str, bytes]) -> None:
    figures = json.loads(zeros["metrics"])
    change = figures["changes"]["adapted_vs_base"]
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
    assert figures["changes"]["adapted_vs_base"]["bits_per_byte"]["general"]["interval"][0] > 0


def test_two_runs_write_the_same_bytes(case: Case, noise: dict[str, bytes], tmp_path: Path) -> None:
    assert case.run(tmp_path, adapter=case.noise, answer_file=tmp_path / "answers.sqlite") == noise


def test_figures_have_stable_keys(zeros: dict[str, bytes]) -> None:
    figures = json.loads(zeros["metrics"])
    extra = {
        "alpha_scale",
        "attribution",
        "classification",
        "dial",
        "fairness",
        "generation",
        "kl_to_base",
        "triage",
    }
    assert (
        set(figures)
        == {"models", "changes", "behaviour", "backward_transfer", "forgetting", "verdict"} | extra
    )
    assert EvaluationFigures.model_validate(figures).model_dump(mode="json") == figures
    assert set(figures["changes"]) == {
        "pretrained_vs_base",
        "adapted_vs_pretrained",
        "adapted_vs_base",
    }
    base = figures["models"]["base"]
    assert base["free_answers"] == {"empty": 0, "n": 2}
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
    assert needed <= set(figures["changes"]["adapted_vs_base"]["general"])


def test_every_answer_of_every_model_is_written(noise: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "predictions").write_bytes(noise["predictions"])
    table = pq.read_table(tmp_path / "predictions")
    rows = table.to_pylist()
    assert table.schema.equals(PREDICTION)
    assert len(rows) == 3 * (ITEMS_PER_CATEGORY * len(CATEGORIES) + 2 + 4)
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
    assert len(lines) == 1 + 3 * (2 + len(CATEGORIES))
    assert lines[1].startswith("domain all 0 base,base,all,domain,1.0,")


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


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("precision", "nf4", ("models", "base", "bits_per_byte", "general", "value")),
        ("heldout_tokens", 90, ("models", "base", "bits_per_byte", "general", "bytes")),
        ("seed", 5, ("models", "base", "bits_per_byte", "general", "interval")),
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
        ("margin", 0.01, ("changes", "adapted_vs_base", "general", "noninferiority_p")),
        (
            "category_margin",
            0.01,
            ("changes", "adapted_vs_base", "categories", "general", "sums", "noninferiority_p"),
        ),
        ("significance", 0.2, ("models", "base", "general", "interval")),
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
    assert loaded == [other]


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
    assert figures["alpha_scale"] == sweep["chosen"] == 0.25
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
        figures["changes"]["adapted_vs_base"]["categories"]["general"]["capitals_task"][
            "difference"
        ]
        == 0
    )


def test_a_given_adapter_scale_is_applied(
    case: Case, noise: dict[str, bytes], tmp_path: Path
) -> None:
    figures = json.loads(case.run(tmp_path, adapter=case.noise, alpha_scale=0.0)["metrics"])
    assert figures["alpha_scale"] == 0
    assert figures["changes"]["adapted_vs_base"]["general"]["difference"] == 0
    assert figure(noise, ("alpha_scale",)) == 1


def test_lost_items_are_asked_again_in_other_forms(noise: dict[str, bytes]) -> None:
    again = figure(noise, ("triage", "few_shot", "regained"))
    assert noise["report"].decode().count("right again after solved examples") == again
    found = figure(noise, ("triage",))
    assert found["lost"] == found["asked"] > 20
    assert found["chance"] == 0.25
    for form in ("few_shot", "bare"):
        assert 0 <= found[form]["interval"][0] <= found[form]["share"] <= found[form]["interval"][1]
    best = max(found["few_shot"]["share"], found["bare"]["share"])
    assert found["spurious"] == pytest.approx(max(0, (best - 0.25) / 0.75), abs=1e-5)


def test_divergence_from_the_base_is_zero_for_zeros_and_positive_for_noise(
    zeros: dict[str, bytes], noise: dict[str, bytes]
) -> None:
    assert figure(zeros, ("kl_to_base", "adapted", "value")) == 0
    assert figure(zeros, ("triage",)) is None
    low, high = figure(noise, ("kl_to_base", "adapted", "interval"))
    assert 0 < low < high


def test_the_fairness_gap_and_its_change_are_measured(
    zeros: dict[str, bytes], noise: dict[str, bytes]
) -> None:
    same, moved = figure(zeros, ("fairness", "gender")), figure(noise, ("fairness", "gender"))
    assert same["n"] == 4
    assert (same["change"], same["interval"]) == (0, [0, 0])
    assert same["gap_before"] == moved["gap_before"] != 0
    assert moved["change"] == pytest.approx(moved["gap_after"] - moved["gap_before"], abs=1e-5)
    assert moved["interval"][0] < moved["change"] < moved["interval"][1]


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
    assert lengths == [2, 2, 2]


def test_heldout_text_is_limited_by_whole_documents(case: Case) -> None:
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
