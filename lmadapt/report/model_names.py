"""The models of an evaluation, as readers see them: which ones, in what order, and how they run."""

from lmadapt.verdict.figures import EvaluationFigures
from lmadapt.verdict.judged import MODELS, PRECISIONS


def shown_models(figures: EvaluationFigures) -> list[str]:
    """The names of the models in the order of training; one that is the reference is left out."""
    names = [name for name in MODELS if name in figures.models]
    if figures.judged.reference_is_base:
        names = [name for name in names if name != "base"]
    return names


def titles(figures: EvaluationFigures) -> dict[str, str]:
    """By name of a model: what it is and in what precision it runs, as a heading."""
    judged = figures.judged
    precision = PRECISIONS[judged.precision]
    known = {
        "reference": f"reference: {judged.reference_title}",
        "base": f"base, {precision}",
        "pretrained": f"pretrained, {precision}",
        "adapted": f"adapted: {judged.artifact_title}",
    }
    return {name: known[name] for name in shown_models(figures)}
