"""A project as `register` finds it: a tiny base, an adapter, an evaluation and a report, in the places of dvc.yaml."""

import json
import shutil
from pathlib import Path
from typing import Any

from lmadapt.core.recipes import use_recipe
from lmadapt.core.tables import write_table
from lmadapt.evaluation.predictions import PREDICTION
from stages.register import RegisterParams, register
from tests.adapter import make_adapter

ROOT = Path(__file__).parents[1]


def make_adapted_project(folder: Path, base: Path, *, outcome: str = "SHIP") -> Path:
    """Fill `folder` with models/base, models/pretrained, models/adapter, metrics, reports, dvc.yaml, params.yaml."""
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


REGISTER = {
    "model_name": "tiny",
    "tracking_uri": "sqlite:///mlflow.db",
    "experiment": "tests",
    "artifact": "adapter",
    "base_license": "apache-2.0",
    "data_license": "CC-BY-4.0",
}


def run_register(**changes: str) -> dict[str, Any]:
    """Run the stage in the working folder, a project made by `make_adapted_project`; its metrics."""
    paths = {
        "pretrained": "models/pretrained",
        "adapter": "models/adapter",
        "evaluation": "metrics/evaluate.json",
        "predictions": "reports/predictions.parquet",
        "report": "reports/forgetting.html",
        "lock": "dvc.lock",
        "metrics": "metrics/register.json",
    }
    register(
        RegisterParams(**{**REGISTER, **changes}),
        **{name: Path(path) for name, path in paths.items()},
    )
    return dict(json.loads(Path("metrics/register.json").read_text()))


def write_evaluation(
    folder: Path, outcome: str, reason: str = "general accuracy fell by 0.1 points [-0.5, 0.3]."
) -> None:
    """Write metrics/evaluate.json with the given verdict."""
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "metrics/evaluate.json").write_text(
        json.dumps(
            {
                "models": {
                    name: _figures(0.4 + 0.1 * i)
                    for i, name in enumerate(("base", "pretrained", "adapted"))
                },
                "changes": {
                    "adapted_vs_base": {
                        "domain": {"difference": 0.2, "interval": [0.15, 0.25]},
                        "general": {"difference": -0.001, "interval": [-0.005, 0.003]},
                        "bits_per_byte": {
                            "domain": {"difference": -0.2, "interval": [-0.3, -0.1]},
                            "general": {"difference": None, "interval": None},
                        },
                    }
                },
                "verdict": {"outcome": outcome, "reason": reason, "evidence": {}},
            }
        )
    )


def write_predictions(
    folder: Path, *, domain_wrong: int = 20, general_wrong: int = 10, items: str = "item"
) -> None:
    """Write reports/predictions.parquet: 60 domain and 2 x 200 general items, the first of each group answered wrong.

    The items are the same in every table with the same `items`.
    """
    rows = [
        {
            "id": f"{items}/{category}/{i:03}",
            "group": group,
            "category": category,
            "cluster": "",
            "model": model,
        }
        | {"log_likelihoods": [], "response": "", "score": float(i >= wrong)}
        for group, category, wrong, count in (
            ("domain", "weaknesses", domain_wrong, 60),
            ("general", "capitals", general_wrong, 200),
            ("general", "sums", general_wrong, 200),
        )
        for i in range(count)
        for model in ("base", "adapted")
    ]
    write_table(rows, PREDICTION, folder / "reports/predictions.parquet")


def _figures(accuracy: float) -> dict[str, Any]:
    share = {"accuracy": accuracy, "n": 400, "interval": [accuracy - 0.05, accuracy + 0.05]}
    text = {"value": 2 - accuracy, "interval": [1.9 - accuracy, 2.1 - accuracy]}
    return {
        "domain": share,
        "general": share,
        "categories": {"capitals": share},
        "bits_per_byte": {"domain": text, "general": {"value": None, "interval": None}},
    }
