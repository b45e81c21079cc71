"""The model card of a version, in the form of the Hugging Face hub."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lmadapt.lineage import Lineage

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
GROUPS = {"domain": "domain items", "general": "general items"}


def write_card(
    target: Path, lineage: Lineage, evaluation: dict[str, Any], *, name: str, base_license: str, data_license: str
) -> Path:
    """Write the card to `target` and return it: data, procedure, results with intervals, forgetting, limits, licences.

    `evaluation` is the content of metrics/evaluate.json; shares there are of 1, in the card percentages and points.
    """
    origin = lineage["params"]["fetch"]["model"]
    results = [
        EvalResult(
            task_type="question-answering",
            dataset_type=f"{name}-{group}",
            dataset_name=title,
            metric_type="accuracy",
            metric_value=evaluation["models"]["adapted"][group]["accuracy"],
        )
        for group, title in GROUPS.items()
    ]
    data = ModelCardData(
        model_name=name,
        license="other",
        license_name=base_license,
        base_model=origin["name_or_path"],
        library_name="peft" if lineage["artifact"] == "adapter" else "transformers",
        pipeline_tag="text-generation",
        tags=["domain-adaptation", "lora"],
        eval_results=results,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=name,
        origin=origin,
        base_license=base_license,
        data_license=data_license,
        lineage=lineage,
        evaluation=evaluation,
    )
    target.write_text(card.content, encoding="utf-8")
    return target
