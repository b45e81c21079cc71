"""The model card of a version, in the form of the Hugging Face hub."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lmadapt.provenance.lineage import Lineage

TEMPLATE = Path(__file__).with_name("card.md.j2")


def write_card(
    target: Path,
    lineage: Lineage,
    evaluation: dict[str, Any],
    *,
    name: str,
    licenses: dict[str, str],
) -> None:
    """Write the card: data, procedure, results with intervals, forgetting, limits, and the `licenses` of base and data.

    `evaluation` is the content of metrics/evaluate.json; shares there are of 1, in the card percentages and points.
    """
    accuracies = {
        group: evaluation["models"]["adapted"][group]["accuracy"] for group in ("domain", "general")
    }
    data = ModelCardData(
        model_name=name,
        license="other",
        license_name=licenses["base"],
        base_model=lineage["params"]["fetch"]["model"]["name_or_path"],
        library_name="peft" if lineage["artifact"] == "adapter" else "transformers",
        pipeline_tag="text-generation",
        eval_results=[
            EvalResult("question-answering", group, f"{group} items", "accuracy", value)
            for group, value in accuracies.items()
        ],
    )
    content: dict[str, Any] = {
        "name": name,
        "licenses": licenses,
        "lineage": lineage,
        "evaluation": evaluation,
    }
    target.write_text(
        ModelCard.from_template(data, template_path=str(TEMPLATE), **content).content,
        encoding="utf-8",
    )
