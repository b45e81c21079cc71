"""Paths of the pipeline, as dvc.yaml states them."""

import shlex
from itertools import pairwise
from pathlib import Path

from ruamel.yaml import YAML

from lmadapt.core.errors import UserError


def stage_paths(stage: str, graph: Path = Path("dvc.yaml")) -> dict[str, Path]:
    """Return the paths in a stage's command by option: {"base": Path("models/base"), …}.

    Raises UserError when there is no dvc.yaml, so that this is not the folder of the project, or
    when dvc.yaml has no such stage.
    """
    if not graph.is_file():
        raise UserError(f"{graph}: no such file; run lmadapt in the folder of the project")
    stages = YAML(typ="safe").load(graph.read_text(encoding="utf-8"))["stages"]
    if stage not in stages:
        raise UserError(f"{graph}: has no stage `{stage}`; present: {', '.join(stages)}")
    words = shlex.split(stages[stage]["cmd"])
    options = [(word, value) for word, value in pairwise(words) if word.startswith("--")]
    return {option.removeprefix("--"): Path(value) for option, value in options}
