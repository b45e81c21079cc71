"""Models and inputs for the stage evaluate, with effects that are known by construction."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lmadapt.evaluation.exam import make_exam
from lmadapt.models.loading import load_bf16, load_tokenizer
from lmadapt.models.log_likelihoods import score
from lmadapt.models.questions import choose
from stages.evaluate import EvaluateParams, Served, evaluate
from tests.planted import make_adapter, make_inputs, make_items
from tests.tiny import make_tiny_model

PARAMS = {
    "seed": 0,
    "reference": "base",
    "reference_precision": "bf16",
    "precision": "bf16",
    "alpha_scale": 1.0,
    "attribution": False,
    "lm_eval_tasks": [],
    "margin": 0.3,
    "category_margin": 0.4,
    "score": "graded",
    "margin_scale": "accuracy",
    "min_domain_gain": 0.0,
    "not_measured": [],
    "bits_per_byte_margin": 0.05,
    "kl_margin": 1.0,
    "significance": 0.05,
    "candidates": 1,
    "looks": 1,
    "planned_items": None,
    "sealed_fraction": 0.0,
    "batch_tokens": 4096,
    "heldout_tokens": 600,
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
        artifact: str = "adapter",
        **changed: Any,
    ) -> dict[str, bytes]:
        outputs = {name: target / name for name in OUTPUTS}
        params = EvaluateParams(**(PARAMS | changed))
        served = Served(artifact=artifact, tracking_uri=f"sqlite:///{target}/mlflow.db")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "stages.evaluate.ANSWER_FILE",
                answer_file or self.inputs["items"].with_name("answers.sqlite"),
            )
            evaluate(params, served, **self.inputs, adapter=adapter or self.zeros, **outputs)
        return {name: path.read_bytes() for name, path in outputs.items()}


def make_case(folder: Path) -> Case:
    """A base that answers every item right; `pretrained` equals it, and `noise` ruins it."""
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


def figure(outputs: dict[str, bytes], path: tuple[str, ...]) -> Any:
    found = json.loads(outputs["metrics"])
    for step in path:
        found = found[step]
    return found
