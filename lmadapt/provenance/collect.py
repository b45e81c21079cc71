"""Collects what a project knows of its adapted model into one document without secrets."""

import logging
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.core.files import file_sha256, folder_sha256, read_json
from lmadapt.core.sections import plain, read_params
from lmadapt.core.stage_runner import recorded_run
from lmadapt.provenance.document import GitState, Origin, StageFiles
from lmadapt.provenance.dvc_lock import locked_stages
from lmadapt.provenance.git import git_state
from lmadapt.provenance.redaction import redact_secrets
from lmadapt.verdict.figures import EvaluationFigures, read_evaluation

log = logging.getLogger(__name__)

TEMPLATE_FILE = "chat_template.jinja"  # where transformers' save_pretrained puts it
NOT_EMBEDDED = ("evaluate", "register")  # evaluate.json lies beside the version as a whole


def collect_origin(
    project: Path, *, pretrained: Path, adapter: Path, evaluation: Path, lock: Path
) -> Origin:
    """What is known of the adapted model: commit, data, params, metrics, hashes and verdict.

    Paths are relative to the working folder; `project` is the folder with params.yaml and
    requirements.lock. Raises UserError when the adapter has no chat template, or when the
    evaluation cannot be read.
    """
    template = adapter / TEMPLATE_FILE
    if not template.is_file():
        raise UserError(
            f"{template}: no such file; an adapter is registered with its tokenizer and "
            "chat template"
        )
    requirements = project / "requirements.lock"
    figures = read_evaluation(evaluation)
    stages = locked_stages(lock)
    known = {
        "git": _known_to_git(project).model_dump(),
        "stages": {name: stage.model_dump() for name, stage in stages.items()},
        "runs": _runs(stages),
        "params": plain(read_params(project / "params.yaml")),
        "metrics": _metrics(stages),
        "adapter_sha256": folder_sha256(adapter),
        "base_sha256": folder_sha256(pretrained),
        "chat_template_sha256": file_sha256(template),
        "evaluation_sha256": file_sha256(evaluation),
        "requirements_lock_sha256": file_sha256(requirements) if requirements.is_file() else None,
        "alpha_scale": figures.alpha_scale,
        "exam": figures.exam.model_dump(),
        "judged": figures.judged.model_dump(),
        "verdict": figures.verdict.model_dump(),
        "figures": main_figures(figures),
    }
    return Origin.model_validate(redact_secrets(known))


def _known_to_git(project: Path) -> GitState:
    state = git_state(project)
    if state.problem:
        log.warning(
            "git does not say what was committed, so the version is promoted only by force: %s; "
            "where another account owns the checkout, trust it: "
            "git config --global --add safe.directory %s",
            state.problem,
            project.resolve(),
        )
    return state


def main_figures(figures: EvaluationFigures) -> dict[str, float]:
    """The accuracy of every model, and adapted - reference, by name; each between -1 and 1."""
    main = {}
    for name, model in figures.models.items():
        main[f"domain_accuracy_{name}"] = model.domain.accuracy
        main[f"general_accuracy_{name}"] = model.general.accuracy
    if change := figures.changes.get("adapted_vs_reference"):
        main["domain_change"] = change.domain.difference
        main["general_change"] = change.general.difference
    return main


def _metrics_file(stage: str) -> Path:
    return Path(f"metrics/{stage}.json")


def _runs(stages: dict[str, StageFiles]) -> dict[str, Any]:
    """Of the stages that ran here and whose metrics are still those of that run."""
    runs = {name: recorded_run(name, _metrics_file(name)) for name in stages}
    return {name: run for name, run in runs.items() if run}


def _metrics(stages: dict[str, StageFiles]) -> dict[str, Any]:
    """Contents of metrics/STAGE.json of the stages before evaluate that wrote one."""
    metrics = {}
    for name, stage in stages.items():
        file = _metrics_file(name)
        if name not in NOT_EMBEDDED and str(file) in stage.outs and file.is_file():
            metrics[name] = read_json(file)
    return metrics
