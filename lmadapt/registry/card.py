"""Writes the model card of a version, in the form of the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lmadapt.provenance.document import MergeDifference, Origin
from lmadapt.verdict.figures import EvaluationFigures

TEMPLATE = Path(__file__).with_name("card.md.j2")


@dataclass(frozen=True)
class Licenses:
    """Names of the licences under which base and data may be used."""

    base: str
    data: str


def write_card(
    target: Path,
    origin: Origin,
    figures: EvaluationFigures,
    *,
    name: str,
    merge_difference: MergeDifference | None,
    licenses: Licenses,
) -> None:
    """Write the card: data, procedure, results with intervals, forgetting, limits and licences.

    `merge_difference` is None when the version ships an adapter. Shares of 1 in the figures become
    percentages and points.
    """
    adapted = figures.models["adapted"]
    accuracies = {"domain": adapted.domain.accuracy, "general": adapted.general.accuracy}
    results = [
        EvalResult("question-answering", group, f"{group} items", "accuracy", accuracy)
        for group, accuracy in accuracies.items()
    ]
    data = ModelCardData(
        model_name=name,
        license="other",
        license_name=licenses.base,
        base_model=origin.params["fetch"]["model"]["name_or_path"],
        library_name="transformers" if merge_difference else "peft",
        pipeline_tag="text-generation",
        eval_results=results,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=name,
        licenses=licenses,
        lineage=origin,
        merge_difference=merge_difference,
        judged=figures.judged,
        before=figures.models["reference"],
        after=adapted,
        change=figures.changes["adapted_vs_reference"],
    )
    target.write_text(card.content, encoding="utf-8")
