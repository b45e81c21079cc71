import gc
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lmadapt import evaluation, scoring
from lmadapt.evaluation import PREDICTION, set_exam
from lmadapt.models import load_bf16, load_tokenizer
from lmadapt.records import ITEM, write_table
from lmadapt.scoring import choose, score
from stages.evaluate import EvaluateParams, _examine, evaluate
from tests.planted import CATEGORIES, ITEMS_PER_CATEGORY, make_adapter, make_heldout, make_inputs, make_items
from tests.tiny import make_tiny_model

PARAMS = {
    "seed": 0,
    "precision": "bf16",
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
    """Models and inputs on disk; `run` gives the four outputs' bytes by name."""

    inputs: dict[str, Path]
    zeros: Path
    noise: Path

    def run(self, target: Path, *, adapter: Path | None = None, **changed: Any) -> dict[str, bytes]:
        outputs = {name: target / name for name in OUTPUTS}
        params = EvaluateParams(**(PARAMS | changed))
        evaluate(params, **self.inputs, adapter=adapter or self.zeros, **outputs)
        return {name: path.read_bytes() for name, path in outputs.items()}


@pytest.fixture(scope="module", autouse=True)
def _small_heap() -> Iterator[None]:
    """The stage collects garbage after each model: half a second with all that pytest has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The base model is always right by construction; `pretrained` is the same model, `noise` destroys it."""
    folder = tmp_path_factory.mktemp("evaluate")
    base = make_tiny_model(folder / "base")
    items = make_items()
    exam = set_exam(items, [], load_tokenizer(base), heldout_tokens=1, seed=0)
    likelihoods = score(load_bf16(base), exam.questions, batch_tokens=4096)
    right = {item["id"]: choose(v, item["choices"]) for v, item in zip(likelihoods, exam.items, strict=True)}
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
    assert (change["general"]["difference"], change["general"]["lost"], change["domain"]["gained"]) == (0, 0, 0)
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


def test_two_runs_are_equal_byte_by_byte(case: Case, noise: dict[str, bytes], tmp_path: Path) -> None:
    assert case.run(tmp_path, adapter=case.noise) == noise


def test_figures_have_stable_keys(zeros: dict[str, bytes]) -> None:
    figures = json.loads(zeros["metrics"])
    assert set(figures) == {"models", "changes", "behaviour", "backward_transfer", "forgetting", "verdict"}
    assert set(figures["changes"]) == {"pretrained_vs_base", "adapted_vs_pretrained", "adapted_vs_base"}
    base = figures["models"]["base"]
    assert set(base) == {"domain", "general", "categories", "bits_per_byte", "behaviour"}
    assert {name: set(base["categories"][name]) for name in ("domain", "general")} == {
        "domain": {"weaknesses"},
        "general": {"capitals", "sums"},
    }
    assert set(base["bits_per_byte"]["domain"]) == {"value", "interval", "bytes", "documents"}
    assert base["behaviour"]["n"] == 2
    needed = {"margin", "noninferiority_p", "worse_p", "minimum_detectable_effect", "items_needed", "mcnemar_p"}
    assert needed <= set(figures["changes"]["adapted_vs_base"]["general"])


def test_every_answer_of_every_model_is_kept(noise: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "predictions").write_bytes(noise["predictions"])
    table = pq.read_table(tmp_path / "predictions")
    rows = table.to_pylist()
    assert table.schema.equals(PREDICTION)
    assert len(rows) == 3 * (ITEMS_PER_CATEGORY * len(CATEGORIES) + 2)
    figures = json.loads(noise["metrics"])
    right = [row["correct"] for row in rows if (row["model"], row["group"]) == ("adapted", "general")]
    assert sum(right) / len(right) == pytest.approx(figures["models"]["adapted"]["general"]["accuracy"], abs=1e-5)
    assert {len(row["log_likelihoods"]) for row in rows if row["group"] == "domain"} == {4}
    assert all(isinstance(row["answer"], str) for row in rows if row["group"] == "behaviour")


def test_the_accuracy_plot_has_a_row_a_model_and_category(zeros: dict[str, bytes]) -> None:
    lines = zeros["accuracy"].decode().splitlines()
    assert lines[0] == "bar,model,category,group,accuracy,low,high"
    assert len(lines) == 1 + 3 * (2 + len(CATEGORIES))
    assert lines[1].startswith("domain all 0 base,base,all,domain,1.0,")


def test_the_report_needs_nothing_else_and_markup_in_data_stays_inert(noise: dict[str, bytes]) -> None:
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
def test_keys_of_the_measurement_change_the_figures(
    *, case: Case, zeros: dict[str, bytes], tmp_path: Path, key: str, value: object, path: tuple[str, ...]
) -> None:
    assert figure(zeros, path) != figure(case.run(tmp_path, **{key: value}), path)


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("margin", 0.01, ("changes", "adapted_vs_base", "general", "noninferiority_p")),
        ("category_margin", 0.01, ("changes", "adapted_vs_base", "categories", "general", "sums", "noninferiority_p")),
        ("significance", 0.2, ("models", "base", "general", "interval")),
    ],
)
def test_keys_of_the_verdict_change_the_figures(
    *,
    case: Case,
    zeros: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    value: object,
    path: tuple[str, ...],
) -> None:
    answers: list[Any] = []  # those of the first model serve for all three: only the verdict is in question

    def examine_once(*arguments: Any, **named: Any) -> Any:
        if not answers:
            answers.append(_examine(*arguments, **named))
        return answers[0]

    monkeypatch.setattr("stages.evaluate._examine", examine_once)
    assert figure(zeros, path) != figure(case.run(tmp_path, **{key: value}), path)


def test_batch_tokens_and_max_new_tokens_reach_the_model(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, lengths = [], []
    plain_batch, plain_ask = scoring._score_batch, evaluation.ask

    def spy_batch(model: Any, rows: list[Any]) -> list[float]:
        batches.append(len(rows) * max(len(row.tokens) for row in rows))
        return plain_batch(model, rows)

    def spy_ask(*arguments: Any, max_new_tokens: int, **named: Any) -> list[str]:
        lengths.append(max_new_tokens)
        return plain_ask(*arguments, max_new_tokens=max_new_tokens, **named)

    monkeypatch.setattr(scoring, "_score_batch", spy_batch)
    monkeypatch.setattr(evaluation, "ask", spy_ask)
    case.run(tmp_path, batch_tokens=600, max_new_tokens=2)
    assert max(batches) <= 600
    assert lengths == [2, 2, 2]


def test_heldout_text_is_capped_by_whole_documents(case: Case) -> None:
    tokenizer = load_tokenizer(case.inputs["base"])
    exam = set_exam([], make_heldout(), tokenizer, heldout_tokens=200, seed=0)
    for group in ("domain", "general"):
        pairs = zip(exam.documents, exam.windows, strict=True)
        tokens = [sum(len(w.continuations[0]) for w in windows) for d, windows in pairs if d["group"] == group]
        assert 0 < sum(tokens) <= 200


def test_an_item_whose_answer_is_none_of_its_choices_is_an_error(case: Case, tmp_path: Path) -> None:
    items = make_items()
    write_table([items[0] | {"answer": 4}, *items[1:]], ITEM, tmp_path / "items.parquet")
    broken = Case(case.inputs | {"items": tmp_path / "items.parquet"}, case.zeros, case.noise)
    with pytest.raises(evaluation.UserError, match="'weaknesses/000': answer 4 is not among its 4 choices"):
        broken.run(tmp_path)
    assert not (tmp_path / "metrics").exists()
