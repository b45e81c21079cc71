"""Any two models side by side, outside of the pipeline: the same exam, the same statistics, the same report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.core.files import write_json
from lmadapt.core.tables import HELDOUT, ITEM, read_table
from lmadapt.evaluation.comparison import item_rows, measure
from lmadapt.evaluation.exam import make_exam
from lmadapt.evaluation.figures import summarise
from lmadapt.evaluation.settings import EvaluationSettings
from lmadapt.evaluation.variants import ModelVariant
from lmadapt.models.loading import load_tokenizer
from lmadapt.report.page import write_report
from lmadapt.sources.by_role import Source, read_source
from lmadapt.verdict.figures import EvaluationFigures


def compare_models(
    model: ModelVariant,
    against: ModelVariant,
    *,
    items: Path,
    heldout: Path,
    settings: Mapping[str, Any],
    kept: Path,
    target: Path,
) -> EvaluationFigures:
    """Judge `model` against another, and write evaluate.json and forgetting.html to the folder `target`.

    items: data/curated/items.parquet, or a file as a source of role `evaluation` reads it; heldout: text for bits per
    byte, as a table HELDOUT; settings: section `evaluate` of params.yaml; kept: the file of kept answers.
    Raises UserError where items, text or models cannot be used, or cannot be compared.
    """
    tokenizer = load_tokenizer(against.folder)
    curated = items.suffix == ".parquet"
    bad: list[dict[str, Any]] = []
    source = Source(path=str(items))
    rows = (
        read_table(items, ITEM).to_pylist()
        if curated
        else list(read_source(source, "evaluation", bad))
    )
    if bad:
        raise UserError(bad[0]["problem"])
    text = read_table(heldout, HELDOUT).to_pylist() if heldout.is_file() else []
    exam = make_exam(
        rows, text, tokenizer, heldout_tokens=settings["heldout_tokens"], seed=settings["seed"]
    )
    evaluation = EvaluationSettings(
        seed=settings["seed"],
        margin=settings["margin"],
        category_margin=settings["category_margin"],
        significance=settings["significance"],
        batch_tokens=settings["batch_tokens"],
        max_new_tokens=settings["max_new_tokens"],
        lm_eval_tasks=settings["lm_eval_tasks"],
        answer_file=kept,
    )
    measured = measure({"base": against, "adapted": model}, exam, tokenizer, evaluation)
    figures = summarise(measured, evaluation)
    write_json(target / "evaluate.json", figures.model_dump(mode="json"))
    write_report(
        target / "forgetting.html",
        figures.model_dump(mode="json"),
        list(item_rows(measured, {})),
        significance=settings["significance"],
        precision=model.precision,
        models=("base", "adapted"),
    )
    return figures
