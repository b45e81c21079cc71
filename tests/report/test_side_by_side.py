import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lmadapt.core.errors import UserError
from lmadapt.evaluation.reference import Reference
from lmadapt.evaluation.variants import ModelVariant
from lmadapt.report.side_by_side import compare_models
from lmadapt.verdict.figures import EvaluationFigures, read_evaluation
from tests.planted import make_adapter, make_inputs, make_items
from tests.tiny import make_tiny_model, make_tiny_tokenizer

SETTINGS: dict[str, Any] = {
    "seed": 0,
    "margin": 0.3,
    "category_margin": 0.4,
    "score": "graded",
    "margin_scale": "accuracy",
    "min_domain_gain": 0.0,
    "not_measured": [],
    "bits_per_byte_margin": 0.05,
    "kl_margin": 1.0,
    "significance": 0.05,
    "batch_tokens": 4096,
    "heldout_tokens": 600,
    "max_new_tokens": 4,
    "lm_eval_tasks": [],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("pair") / "base")


def bf16(folder: Path) -> Reference:
    return Reference("base", ModelVariant(folder, "bf16"))


def run(folder: Path, model: ModelVariant, against: Reference, **named: Any) -> EvaluationFigures:
    inputs = Path(tempfile.mkdtemp(dir=folder))
    places = make_inputs(inputs, make_items())
    paths = {
        "items": places["items"],
        "heldout": places["heldout"],
        "kept": folder / "answers.sqlite",
    }
    return compare_models(
        model, against, settings=SETTINGS, target=folder / "out", **(paths | named)
    )


def test_two_adapters_are_judged_and_reported(base: Path, tmp_path: Path) -> None:
    noise = make_adapter(base, tmp_path / "noise", noise=0.5)
    figures = run(tmp_path, ModelVariant(base, "bf16", noise), bf16(base))
    assert list(figures.models) == ["reference", "adapted"]
    assert list(figures.changes) == ["adapted_vs_reference"]
    assert figures.kl_to_reference is not None
    assert figures.kl_to_reference["adapted"].value > 0
    assert read_evaluation(tmp_path / "out/evaluate.json") == figures
    assert figures.verdict.outcome in (tmp_path / "out/forgetting.html").read_text()


def test_a_model_with_another_tokenizer_is_asked_in_its_own_tokens(
    base: Path, tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", family="llama", seed=3)
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("Question: ", "Q. ")
    tokenizer.save_pretrained(other)
    figures = run(tmp_path, ModelVariant(other, "bf16"), bf16(base))
    assert figures.kl_to_reference is None
    bits = figures.changes["adapted_vs_reference"].bits_per_byte.general
    assert bits.interval is not None
    assert bits.interval[0] <= (bits.difference or 0.0) <= bits.interval[1]


def test_items_of_a_file_are_checked_as_a_source(base: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"prompt": "What is it?", "choices": ["a", "b"], "answer": 5}\n')
    with pytest.raises(
        UserError, match=r"items.jsonl:1: answer is 5, which is none of the choices"
    ):
        run(tmp_path, ModelVariant(base, "bf16"), bf16(base), items=items)
    lines = []
    for group in ("domain", "general"):
        for number in range(30):
            asked = {"prompt": f"{group} {number}?", "choices": ["a", "b"], "answer": number % 2}
            lines.append(json.dumps(asked | {"group": group, "category": group}) + "\n")
    items.write_text("".join(lines))
    figures = run(
        tmp_path,
        ModelVariant(base, "bf16"),
        bf16(base),
        items=items,
        heldout=tmp_path / "none",
    )
    assert figures.models["reference"].general.n == 30
    assert figures.changes["adapted_vs_reference"].general.difference == 0


def test_a_model_compared_with_itself_has_lost_nothing(base: Path, tmp_path: Path) -> None:
    figures = run(tmp_path, ModelVariant(base, "bf16"), bf16(base))
    assert figures.changes["adapted_vs_reference"].general.lost == 0
    assert figures.kl_to_reference is not None
    assert figures.kl_to_reference["adapted"].value == 0
    assert figures.triage is None
