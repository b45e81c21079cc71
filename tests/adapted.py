"""A project as `register` finds it: a tiny base, an adapter, an evaluation and a report.

The files are in the places that dvc.yaml names.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lmadapt.core.recipes import use_recipe
from lmadapt.core.tables import write_table
from lmadapt.evaluation.predictions import PREDICTION
from lmadapt.provenance.document import Lineage
from lmadapt.verdict.figures import EvaluationFigures
from stages.register import RegisterParams, register
from tests.adapter import make_adapter

ROOT = Path(__file__).parents[1]
REASON = "general accuracy fell by 0.1 points [-0.5, 0.3]."
REGISTER = {
    "model_name": "tiny",
    "tracking_uri": "sqlite:///mlflow.db",
    "experiment": "tests",
    "artifact": "adapter",
    "base_license": "apache-2.0",
    "data_license": "CC-BY-4.0",
}
JUDGED = {
    "reference": "base",
    "reference_version": None,
    "reference_precision": "bf16",
    "reference_sha256": "b" * 64,
    "artifact": "adapter",
    "precision": "nf4",
}
EXAM: dict[str, Any] = {
    "sha256": "e" * 64,
    "level": 0.05,
    "candidates": 1,
    "looks": 1,
    "planned_items": None,
    "items": 800,
    "sealed_items": 0,
}
Row = dict[str, Any]


def make_adapted_project(folder: Path, base: Path, *, outcome: str = "SHIP") -> Path:
    """Fill `folder` with models/, metrics/, reports/, dvc.yaml and params.yaml."""
    for name in ("base", "pretrained"):
        shutil.copytree(base, folder / "models" / name)
    make_adapter(base, folder / "models/adapter")
    (folder / "reports").mkdir()
    (folder / "reports/forgetting.html").write_text("<p>nothing forgotten</p>")
    write_evaluation(folder, outcome)
    write_predictions(folder)
    shutil.copy2(ROOT / "dvc.yaml", folder / "dvc.yaml")
    use_recipe("demo-cpu", ROOT / "recipes", folder / "params.yaml")
    return folder


def run_register(**changes: str) -> Row:
    """Run the stage in the working folder, a project of `make_adapted_project`; its metrics."""
    register(
        RegisterParams(**{**REGISTER, **changes}),
        pretrained=Path("models/pretrained"),
        adapter=Path("models/adapter"),
        evaluation=Path("metrics/evaluate.json"),
        predictions=Path("reports/predictions.parquet"),
        report=Path("reports/forgetting.html"),
        lock=Path("dvc.lock"),
        metrics=Path("metrics/register.json"),
    )
    return dict(json.loads(Path("metrics/register.json").read_text()))


def write_evaluation(folder: Path, outcome: str, reason: str = REASON, **changes: Any) -> None:
    """Write a complete metrics/evaluate.json with the given verdict."""
    figures = evaluation_figures(outcome, reason) | changes
    checked = EvaluationFigures.model_validate(figures).model_dump(mode="json")
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "metrics/evaluate.json").write_text(json.dumps(checked))


def judge_as(artifact: str, precision: str) -> None:
    """Let the evaluation in the working folder be about this artifact, and params.yaml agree."""
    evaluation, params = Path("metrics/evaluate.json"), Path("params.yaml")
    figures = json.loads(evaluation.read_text())
    figures["judged"] |= {"artifact": artifact, "precision": precision}
    evaluation.write_text(json.dumps(figures))
    settings = YAML().load(params)
    settings["evaluate"]["precision"] = precision
    YAML().dump(settings, params)


def evaluation_figures(outcome: str = "SHIP", reason: str = REASON) -> Row:
    """Accuracies 40, 50 and 60 %; the domain gains 20 points, general ability loses 0.1."""
    weaknesses = _change(0.2, 0.05) | {"worse_p_adjusted": 1.0}
    domain = weaknesses | {"min_gain": 0.0, "gain_p": 0.001}
    general = _change(-0.001, 0.004) | {
        "worse_p_adjusted": 1.0,
        "margin": 0.02,
        "noninferiority_p": 0.001,
        "minimum_detectable_effect": 0.01,
        "items_needed": 300,
        "measurable": True,
    }
    categories = {"domain": {"weaknesses": weaknesses}, "general": {"capitals": general}}
    bits = {"domain": _text_change(-0.2, 0.1), "general": _text_change(None, 0.0)}
    change = {
        "domain": domain,
        "general": general,
        "categories": categories,
        "bits_per_byte": bits,
    }
    return {
        "judged": JUDGED,
        "models": {
            "reference": _model(0.4),
            "base": _model(0.4),
            "pretrained": _model(0.5),
            "adapted": _model(0.6),
        },
        "changes": {"adapted_vs_reference": change},
        "attribution": None,
        "kl_to_reference": None,
        "behaviour": {"lost": [], "gained": []},
        "behaviour_rates": {},
        "label_gaps": {},
        "confident_losses": None,
        "behaviour_tests": {"major": None, "free_answers": None},
        "alarms": {"bits_per_byte": None, "kl": None},
        "calibration": None,
        "triage": None,
        "dial": None,
        "alpha_scale": 1.0,
        "exam": EXAM,
        "fairness": {},
        "classification": {},
        "generation": {},
        "backward_transfer": -0.001,
        "forgetting": 0.001,
        "verdict": {"outcome": outcome, "reason": reason, "remedy": [], "evidence": []},
    }


def _model(accuracy: float) -> Row:
    share = {
        "accuracy": accuracy,
        "n": 400,
        "interval": _around(accuracy, 0.05),
        "chance": 0.25,
        "chance_adjusted": (accuracy - 0.25) / 0.75,
    }
    text = {"value": 2 - accuracy, "interval": _around(2 - accuracy, 0.1)}
    no_text = {"value": None, "interval": None}
    return {
        "domain": share,
        "general": share,
        "categories": {"domain": {"weaknesses": share}, "general": {"capitals": share}},
        "bits_per_byte": {
            "domain": text | {"bytes": 5000, "documents": 20},
            "general": no_text | {"bytes": 0, "documents": 0},
        },
        "behaviour": {"passed": 0, "n": 0},
        "free_answers": {"empty": 0, "looping": 0, "n": 0},
    }


def _change(difference: float, half: float) -> Row:
    return {
        "difference": difference,
        "interval": _around(difference, half),
        "n": 400,
        "clusters": 400,
        "lost": 10,
        "gained": 90,
        "mcnemar_p": 0.001,
        "better_p": 0.001,
        "worse_p": 0.999,
    }


def _text_change(difference: float | None, half: float) -> Row:
    interval = None if difference is None else _around(difference, half)
    return {"difference": difference, "interval": interval, "bytes": 5000, "documents": 20}


def _around(middle: float, half: float) -> list[float]:
    return [middle - half, middle + half]


def write_predictions(
    folder: Path,
    *,
    domain_wrong: int = 20,
    general_wrong: int = 10,
    items: str = "item",
    ids: str = "",
    contents: Mapping[str, str] | None = None,
) -> None:
    """Write reports/predictions.parquet: 60 domain and 2 x 200 general items.

    The first `domain_wrong` or `general_wrong` items of each category are answered wrong. The
    items are the same in every table with the same `items`; with the same `ids` they only look so.
    `contents`: by id, the hash of the content, where it matters.
    """
    rows = []
    for group, category, wrong, count in (
        ("domain", "weaknesses", domain_wrong, 60),
        ("general", "capitals", general_wrong, 200),
        ("general", "sums", general_wrong, 200),
    ):
        for number in range(count):
            name = f"{ids or items}/{category}/{number:03}"
            content = hashlib.sha256(f"{items}/{category}/{number}".encode()).hexdigest()
            content = (contents or {}).get(name, content)
            for model in ("reference", "adapted"):
                rows.append(
                    {
                        "id": name,
                        "group": group,
                        "category": category,
                        "cluster": "",
                        "content_sha256": content,
                        "model": model,
                        "log_likelihoods": [],
                        "response": "",
                        "score": float(number >= wrong),
                        "graded": None,
                        "temperature": None,
                    }
                )
    (folder / "reports").mkdir(exist_ok=True)
    write_table(rows, PREDICTION, folder / "reports/predictions.parquet")


def make_lineage(**changes: Any) -> Lineage:
    """A complete lineage document of a version that ships an adapter."""
    sha256 = "a" * 64
    document = {
        "git": {"commit": "c" * 40, "changed_files": []},
        "stages": {},
        "runs": {},
        "params": {},
        "metrics": {},
        "adapter_sha256": sha256,
        "base_sha256": sha256,
        "chat_template_sha256": sha256,
        "evaluation_sha256": sha256,
        "requirements_lock_sha256": None,
        "alpha_scale": 1.0,
        "verdict": {"outcome": "SHIP", "reason": REASON},
        "figures": {},
        "artifact": "adapter",
        "artifact_sha256": sha256,
        "predictions_sha256": sha256,
        "dvc_stores": [],
    }
    return Lineage.model_validate(document | changes)
